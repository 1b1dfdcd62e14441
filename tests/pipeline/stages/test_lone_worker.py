import pytest
from deadly_units import SLICE, UNIT, committed, planned, stage

from pipeline.decode.unit import decode_unit
from pipeline.stages import read as read_stage
from pipeline.stages.lone_worker import Done, LeftOut, LoneWorker, Take
from pipeline.stages.place import Place
from pipeline.storage.objects import Unreachable
from schemas.envelope import DecodedUnit, WorkItem
from schemas.outcome import Outcome
from schemas.tally import WORKER_DIED

TAR = ("a.png", "b.png", "c.png", "d.png", "e.png")


@pytest.fixture
def seen(monkeypatch):
    """The names of the images that the second stage was given to score, call by call."""
    monkeypatch.setattr(read_stage, "decode_in_child", lambda table, decode, timeout_s: decode_unit(table, decode))
    return []


def worker(folder, config, seen):
    return LoneWorker(config, stage(folder / "made", lambda names: seen.append(names)))


def test_it_goes_on_part_by_part(tmp_path, seen):
    config = planned(tmp_path, tar=TAR)
    lone = worker(tmp_path, config, seen)
    lone.rehearse()
    first = lone.go_on(WorkItem(0), LeftOut())
    assert [outcome.scored for outcome in first.outcomes] == [UNIT] and first.rest.part == 1
    second = lone.go_on(first.rest, LeftOut())
    assert [outcome.scored for outcome in second.outcomes] == [1] and second.rest is None
    assert seen == [[], list(TAR[:UNIT]), list(TAR[UNIT:])]
    assert lone.go_on(WorkItem(0), LeftOut()) == Done([Outcome(0, 0, UNIT), Outcome(0, 1, 1)], None), "it is committed"
    assert len(seen) == 3


def test_what_is_left_out_is_an_error_and_never_decoded(tmp_path, seen):
    config = planned(tmp_path, tar=TAR)
    lone = worker(tmp_path, config, seen)
    rest = lone.go_on(WorkItem(0), LeftOut(Take.IMAGES, (1, 3), "why")).rest
    lone.go_on(rest, LeftOut(Take.NO_IMAGE, message="why"))
    assert seen == [["a.png", "c.png"], []]
    assert committed(config) == {name: None if name in "a.png c.png" else WORKER_DIED for name in TAR}


def test_a_unit_that_is_not_read_lists_all_its_images(tmp_path, seen):
    config = planned(tmp_path, files=TAR, parquet=TAR)
    lone = worker(tmp_path, config, seen)
    for number, images in enumerate((UNIT, 1, len(TAR))):
        rest, errors = WorkItem(number), 0
        while rest is not None:
            (outcome,), rest = lone.go_on(rest, LeftOut(Take.NOTHING))
            assert (outcome.scored, outcome.bytes_read) == (0, 0)
            errors += outcome.errors
        assert errors == images
    assert set(committed(config).values()) == {WORKER_DIED}


def test_a_stream_that_is_not_read_is_one_error(tmp_path, seen):
    config = planned(tmp_path, tar=TAR)
    rest = worker(tmp_path, config, seen).go_on(WorkItem(0), LeftOut()).rest
    done = worker(tmp_path / "b", config, seen).go_on(rest, LeftOut(Take.NOTHING))
    assert [(outcome.part, outcome.errors) for outcome in done.outcomes] == [(1, 1)] and done.rest is None
    assert committed(config) == {**dict.fromkeys(TAR[:UNIT]), "shard-00000.tar": WORKER_DIED}


def test_a_probe_commits_nothing(tmp_path, seen):
    config = planned(tmp_path, files=TAR)
    lone = worker(tmp_path, config, seen)
    assert lone.probe(WorkItem(0), 1, 3) == UNIT
    assert seen == [["b.png", "c.png"]]
    assert not list(config.ledger.commits(SLICE, 0, 2))


def test_what_storage_does_not_give_stays_open(tmp_path, seen, monkeypatch):
    def no_answer(source):
        raise Unreachable("no answer")

    config = planned(tmp_path, files=TAR)
    monkeypatch.setattr(read_stage, "open_input", no_answer)
    lone = worker(tmp_path, config, seen)
    assert lone.go_on(WorkItem(1), LeftOut()) == Done([Outcome(1, 0, message="no answer")], None)
    assert lone.probe(WorkItem(1), 0, 1) is None


class Watched(Place):
    """Says what was told to it."""

    def __init__(self):
        super().__init__()
        self.said = []

    def _tell(self):
        self.said.append("finished")


def test_only_what_follows_the_rehearsal_is_a_finished_unit(tmp_path, seen):
    config, place = planned(tmp_path, tar=TAR), Watched()
    inner = stage(tmp_path / "made", lambda names: seen.append(names))

    class Stage(inner):
        def __init__(self, config, place):
            super().__init__(config)
            self._place = place

        def __call__(self, row):
            with self._place.unit(DecodedUnit.of(row).label):
                return super().__call__(row)

    lone = LoneWorker(config, Stage, place)
    assert lone.rehearse() and place.said == []
    lone.go_on(WorkItem(0), LeftOut())
    assert place.said == ["finished"]
