import pytest
from own_time import set_time

from pipeline import slice_scoring as module
from pipeline.slice_scoring import Patience, RunProgress, score_units, wait_for_storage
from pipeline.stages.config import StageConfig
from pipeline.storage.objects import Denied, Unreachable
from schemas.envelope import WorkItem
from schemas.outcome import Outcome
from schemas.plan import UnitOutline


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only sleeping spends."""
    now = [0.0]
    set_time(monkeypatch, module, monotonic=lambda: now[0])
    set_time(monkeypatch, module, sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def storage(*answers):
    left = list(answers)

    def ask():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer

    return ask, left


def test_storage_that_comes_back_is_waited_for_and_this_is_said_once(clock, monkeypatch):
    said = []
    monkeypatch.setattr(module.log, "warning", lambda *words: said.append(words[0] % words[1:]))
    ask, left = storage(*[Unreachable("no answer")] * 3, None)
    wait_for_storage(ask, 600)
    assert not left and clock[0] == 3 * module.ASK_AGAIN_S
    assert said == ["storage does not answer; waiting up to 600 s for it. no answer"]


def test_storage_that_stays_away_ends_the_run(clock):
    ask, left = storage(*[Unreachable("no answer")] * 100)
    with pytest.raises(Unreachable, match="no answer"):
        wait_for_storage(ask, 60)
    assert clock[0] == 60


def test_a_refusal_is_an_answer(clock):
    wait_for_storage(storage(Denied("not yours"))[0], 60)
    assert clock[0] == 0


class Listing:
    """Units of ten images whose windows are listed; `faults` are raised by the first listings. `other` units are scored by
    another model."""

    def __init__(self, monkeypatch, units, committed, faults=(), other=()):
        self.units, self.windows, self.committed, self.faults, self.looks = units, [], set(committed), list(faults), 0
        self.other = set(other)
        monkeypatch.setattr(module.slices, "outlines", self.outlines)
        monkeypatch.setattr(module, "pending", self.pending)

    def outlines(self, ledger, number, first, end):
        self.windows.append((first, end))
        if self.faults:
            raise self.faults.pop(0)
        return [UnitOutline(unit, "2024-01-01", int(unit in self.other), 10) for unit in range(first, end)]

    def pending(self, ledger, number, units):
        return [WorkItem(unit.number) for unit in units if unit.number not in self.committed]

    def check(self):
        self.looks += 1

    def list(self):
        return []


class OneStream:
    """An engine that commits every unit, except those that are refused, and those that end a worker unless they are alone."""

    def __init__(self, listing, refused=(), deadly=()):
        self.listing, self.streams, self.starts = listing, [], 0
        self.refused, self.deadly, self.lone = set(refused), set(deadly), []

    def start(self):
        self.starts += 1

    def stream(self, items, config):
        self.streams.append([])
        for item in items:
            self.streams[-1].append(item.number)
            if item.number in self.deadly:
                continue
            if item.number in self.refused:
                yield Outcome(item.number, 0, message="no answer")
                continue
            self.listing.committed.add(item.number)
            yield Outcome(item.number, 0, scored=10)

    def alone(self, items, config):
        for item in items:
            self.lone.append(item.number)
            self.listing.committed.add(item.number)
            yield Outcome(item.number, 0, scored=9, errors=1)


def score(listing, engine, scoring=0):
    config, seen = StageConfig(None, 0, None, "", ""), []
    progress = RunProgress(planned=10 * listing.units)
    still_open = score_units(
        *(config, listing.units, scoring, engine, listing, listing, Patience(2, 0), progress),
        lambda now: seen.append(now.done),
    )
    return progress, seen, still_open


def test_all_windows_are_one_stream_and_each_begins_with_a_look_at_the_lease(monkeypatch):
    listing = Listing(monkeypatch, units=5, committed=[0, 1, 3])
    engine = OneStream(listing)
    _, seen, still_open = score(listing, engine)
    assert engine.streams == [[2, 4]] and engine.starts == 1
    assert listing.windows == [(0, 2), (2, 4), (4, 5)] * 2  # once for the stream, once for what is left
    assert listing.looks == len(listing.windows)
    assert seen == [30, 40, 50] and still_open == {}


def test_what_was_read_of_streams_counts_in_bytes(monkeypatch):
    """One of 100 bytes is read to its end and one to byte 30; of a compressed one the offset may lie beyond its size."""
    listing, seen = Listing(monkeypatch, units=4, committed=[]), []
    monkeypatch.setattr(module.slices, "outlines", lambda *_: [UnitOutline(unit, "none", 0, None, 100) for unit in range(4)])
    left = [[WorkItem(1, 30, 1), WorkItem(2, 700, 5), WorkItem(3)], []]
    monkeypatch.setattr(module, "pending", lambda *_: left.pop(0))
    progress = RunProgress(streams=4, size=400)
    score_units(
        *(StageConfig(None, 0, None, "", ""), 4, 0, OneStream(listing), listing, listing, Patience(4, 0)),
        *(progress, lambda now: seen.append((now.done, now.bytes_read))),
    )
    assert seen[0] == (0, 100 + 30 + 100)


def test_units_of_another_model_are_left_alone(monkeypatch):
    listing = Listing(monkeypatch, units=5, committed=[], other=[1, 2])
    engine = OneStream(listing)
    assert score(listing, engine)[2] == {} and engine.streams == [[0, 3, 4]]
    assert score(listing, engine, scoring=1)[2] == {} and engine.streams[1:] == [[1, 2]]


def test_nothing_starts_when_all_is_committed(monkeypatch):
    listing = Listing(monkeypatch, units=5, committed=range(5))
    engine = OneStream(listing)
    assert score(listing, engine)[0].done == 50
    assert engine.streams == [] and engine.starts == 0


def test_what_storage_did_not_give_is_tried_once_more_at_the_end(monkeypatch):
    listing = Listing(monkeypatch, units=3, committed=[])
    engine = OneStream(listing, refused=[1])
    _, _, still_open = score(listing, engine)
    assert engine.streams == [[0, 1, 2], [1]] and still_open == {1: "no answer"}


def test_units_without_an_outcome_are_scored_alone_and_storage_faults_are_not(monkeypatch):
    listing = Listing(monkeypatch, units=6, committed=[])
    engine = OneStream(listing, refused=[1], deadly=[2, 4])
    progress, _, still_open = score(listing, engine)
    assert engine.streams == [[0, 1, 2, 3, 4, 5], [1]] and engine.lone == [2, 4]
    assert still_open == {1: "no answer"} and (progress.done, progress.errors) == (50, 2)


def test_more_than_a_command_scores_alone_stays_open(monkeypatch):
    monkeypatch.setattr(module, "MOST_ALONE", 1)
    listing = Listing(monkeypatch, units=3, committed=[])
    engine = OneStream(listing, deadly=[0, 2])
    assert score(listing, engine)[2] == {2: "its worker died"} and engine.lone == [0]


def test_a_listing_waits_for_storage_once(monkeypatch):
    listing = Listing(monkeypatch, units=3, committed=[], faults=[Unreachable("no answer")])
    engine = OneStream(listing)
    assert score(listing, engine)[0].done == 30
    assert engine.streams == [[0, 1, 2]]
    broken = Listing(monkeypatch, units=3, committed=[], faults=[Unreachable("no answer")] * 2)
    with pytest.raises(Unreachable, match="no answer"):
        score(broken, OneStream(broken))
