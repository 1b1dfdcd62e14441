from types import SimpleNamespace

import pytest
import ray
from deadly_units import SLICE, UNIT, committed, planned, stage
from ray.exceptions import ActorDiedError, RayError

from pipeline.stages import alone
from pipeline.stages.cluster import Resources
from pipeline.stages.faults import WorkersDie
from pipeline.stages.lone_worker import Done, LeftOut, LoneWorker, Take
from pipeline.state import slices
from pipeline.state.commits import pending
from pipeline.state.ledger import Ledger
from schemas.envelope import WorkItem
from schemas.tally import WORKER_DIED

CONFIG = SimpleNamespace(ledger=Ledger("file:///nowhere", "tiny"), slice=3)  # what its lines name
RESOURCES = Resources(scorer_cpus=0.5, scorer_gpus=0)
FILES = ("deadly.png", "p1.png", "p2.png", "p3.png", "p4.png", "p5.png")


def score(config):
    items = list(pending(config.ledger, SLICE, slices.outlines(config.ledger, SLICE)))
    return list(alone.score_alone(items, config, RESOURCES))


@pytest.fixture(autouse=True)
def two_tries(monkeypatch):
    monkeypatch.setattr(alone, "TRIES", 2)  # a worker takes seconds to start


def test_the_image_that_ends_its_worker_is_found_and_the_others_are_scored(tmp_path, ray_runs, monkeypatch):
    made = tmp_path / "made"
    monkeypatch.setattr(alone, "ScoreStage", stage(made, lambda names: any("deadly" in name for name in names)))
    tar = ("t0.png", "t1.png", "t2.png", "t3.png", "t4-deadly.png", "t5.png")
    config = planned(tmp_path, FILES, tar)
    assert [(each.number, each.part, each.scored, each.errors, each.new) for each in score(config)] == [
        (0, 0, 3, 1, True),
        (1, 0, 2, 0, True),
        (2, 0, 4, 0, True),
        (2, 1, 1, 1, True),
    ]
    assert committed(config) == {name: WORKER_DIED if "deadly" in name else None for name in (*FILES, *tar)}
    # it ends with four images, two, one and one again; of the other unit with two, one and one again; and one lives
    assert len(list(made.iterdir())) == 4 + 3 + 1


def outcome_bytes(config, number):
    (unit,) = slices.units(config.ledger, SLICE, number, number + 1)
    return unit.size


def test_images_that_only_end_it_together_are_errors_together(tmp_path, ray_runs, monkeypatch):
    monkeypatch.setattr(alone, "ScoreStage", stage(tmp_path / "made", lambda names: len(names) == UNIT))
    config = planned(tmp_path, FILES)
    assert [(each.scored, each.errors) for each in score(config)] == [(0, UNIT), (2, 0)]
    assert list(committed(config).values()) == [WORKER_DIED] * UNIT + [None] * 2


def test_what_ends_it_while_it_reads_is_not_read(tmp_path, ray_runs, monkeypatch):
    class Fragile(LoneWorker):
        def go_on(self, item, left_out):
            if left_out.take is not Take.NOTHING and item.number == 0:
                ray.actor.exit_actor()
            return super().go_on(item, left_out)

        def probe(self, item, first, end):
            ray.actor.exit_actor()

    monkeypatch.setattr(alone, "LoneWorker", Fragile)
    monkeypatch.setattr(alone, "ScoreStage", stage(tmp_path / "made", lambda names: False))
    config = planned(tmp_path, FILES)
    assert [(each.scored, each.errors, each.bytes_read) for each in score(config)] == [
        (0, UNIT, 0),
        (2, 0, outcome_bytes(config, 1)),
    ]
    assert list(committed(config).values()) == [WORKER_DIED] * UNIT + [None] * 2


def test_a_worker_that_dies_after_its_commit_has_done_its_part(tmp_path, ray_runs, monkeypatch):
    class Late(LoneWorker):
        def go_on(self, item, left_out):
            super().go_on(item, left_out)
            ray.actor.exit_actor()

    monkeypatch.setattr(alone, "LoneWorker", Late)
    monkeypatch.setattr(alone, "ScoreStage", stage(tmp_path / "made", lambda names: False))
    tar = tuple(f"t{i}.png" for i in range(9))
    config = planned(tmp_path, tar=tar)
    assert [(each.part, each.scored) for each in score(config)] == [(0, 4), (1, 4), (2, 1)]
    assert committed(config) == dict.fromkeys(tar)


def test_a_machine_on_which_no_worker_lives_is_said_to_be_at_fault(tmp_path, ray_runs, monkeypatch):
    made = tmp_path / "made"
    monkeypatch.setattr(alone, "ScoreStage", stage(made, lambda names: True))
    with pytest.raises(WorkersDie, match="an image of zeros; 2 did not.*repeat the command"):
        score(planned(tmp_path, FILES))
    assert len(list(made.iterdir())) == alone.TRIES


def test_an_error_of_our_own_is_raised(tmp_path, ray_runs, monkeypatch):
    def fails(names):
        if names:
            raise KeyError(names[0])
        return False

    monkeypatch.setattr(alone, "ScoreStage", stage(tmp_path / "made", fails))
    with pytest.raises(KeyError, match=r"deadly\.png"):
        score(planned(tmp_path, FILES))


class Tried:
    """In place of an actor, and of Ray's class of it: each call's answer is the next one; an error is raised by `ray.get`."""

    def __init__(self, answers):
        self.answers, self.made = answers, 0
        self.rehearse, self.go_on = SimpleNamespace(remote=lambda: True), SimpleNamespace(remote=lambda *_: next(answers))

    def options(self, **_):
        return self

    def remote(self, *_):
        self.made += 1
        return self


class Blaming:
    """Devices that are at fault or not, death by death."""

    def __init__(self, faults):
        self.faults, self.place = iter(faults), SimpleNamespace(named=lambda name: name)

    def begin(self, scorers):
        return self.place

    def blamed(self, name):
        return next(self.faults)


@pytest.fixture
def tried(monkeypatch):
    """A worker whose calls die so often and then are done, on devices that are at fault as said."""

    def make(deaths, faults):
        def get(answer):
            if isinstance(answer, RayError):
                raise answer
            return answer

        actor = Tried(iter([*(ActorDiedError() for _ in range(deaths)), Done([], None)]))
        for name, stand_in in (("remote", lambda _: actor), ("get", get), ("kill", lambda _: None)):
            monkeypatch.setattr(alone.ray, name, stand_in)
        return alone._Worker(CONFIG, RESOURCES, Blaming(faults)), actor

    return make


def test_what_a_device_does_is_no_try_of_a_unit(tried):
    worker, actor = tried(5, [True] * 5)
    assert worker.go_on(WorkItem(0), LeftOut()) == Done([], None)
    assert actor.made == 6


def test_an_end_that_is_no_fault_of_a_device_is_a_try(tried):
    worker, actor = tried(3, [True, True, False])
    with pytest.raises(alone._Died):
        worker.go_on(WorkItem(0), LeftOut())
    assert actor.made == 3
