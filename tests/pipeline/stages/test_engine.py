import os
import time

import pytest
import ray
from deadly_units import committed, planned, stage

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.listing_file import ListingFile
from pipeline.slice_scoring import Patience, RunProgress, score_units
from pipeline.stages import alone, dataset, engine
from pipeline.stages.cluster import Resources
from pipeline.stages.config import StageConfig
from pipeline.stages.engine import RayEngine
from pipeline.stages.faults import ScorerRefuses, WorkersDie
from pipeline.stages.joining.nodes import NodeLacks
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Denied
from pipeline.storage.store import open_store
from schemas.envelope import WorkItem, items_in
from schemas.outcome import Outcome
from schemas.tally import WORKER_DIED


@pytest.fixture
def stage_config(tmp_path):
    scoring = ScoringConfig(
        model="m", model_digest="d", source=SourceConfig(input_uri=""), decode=DecodeConfig(height=8, width=8)
    )
    return StageConfig(Ledger(str(tmp_path / "out"), "r"), 0, scoring, "", "")


@pytest.fixture
def started(ray_runs):
    found = RayEngine(None, Resources(scorer_cpus=0.5, read_cpus=0.25, commit_cpus=0.25), "cpu")  # two tasks read on one core
    found.start()
    return found


@pytest.fixture
def stages(monkeypatch, tmp_path):
    """Stages that only pass outcomes on. Unit 0 is a slow stream: it lasts until `release` exists, a minute at most. Each
    scorer leaves a file."""
    release, made = tmp_path / "release", tmp_path / "made"
    made.mkdir()

    def read(items, config):
        for item in items_in(items):
            until = time.monotonic() + 60
            while item.number == 0 and not release.exists() and time.monotonic() < until:
                time.sleep(0.05)
            yield Outcome(item.number, 0, message=None if release.exists() or item.number else "it held others back").table()

    class Scorer:
        CALLS = 2

        def __init__(self, config):
            (made / str(time.time_ns())).touch()

        def __call__(self, row):
            return row

    monkeypatch.setattr(dataset, "read_and_decode", read)
    monkeypatch.setattr(dataset, "ScoreStage", Scorer)
    monkeypatch.setattr(dataset, "commit", lambda row, config: row)
    return release, made


def test_one_pool_serves_all_windows_and_a_slow_stream_holds_none_back(started, stages, stage_config):
    release, made = stages
    listed = []

    def windows():
        for first in range(0, 40, 10):
            listed.append(first)
            yield from (WorkItem(number) for number in range(first, first + 10))

    found = []
    for outcome in started.stream(windows(), stage_config):
        found.append(outcome)
        if len(found) == 39:
            release.touch()
    assert sorted(outcome.number for outcome in found) == list(range(40))
    assert found[-1] == Outcome(0, 0), "units of later windows waited for the slow stream"
    assert listed == [0, 10, 20, 30]
    assert len(list(made.iterdir())) == 1


def test_what_the_listing_raises_ends_the_stream(started, stages, stage_config):
    def items():
        yield WorkItem(1)
        raise KeyError("the lease is gone")

    with pytest.raises(KeyError, match="the lease is gone"):
        list(started.stream(items(), stage_config))


def test_mapped_tasks_ask_for_memory(started):
    def assigned(_):
        return ray.get_runtime_context().get_assigned_resources().get("memory", 0)

    assert list(started.map(assigned, [0, 1])) == [0, 0]
    assert list(started.map(assigned, [0, 1], memory_bytes=64 << 20)) == [64 << 20] * 2


def test_a_task_that_fits_on_no_node_says_so_and_runs_alone(started, capsys):
    largest = max(int(node["Resources"].get("memory", 0)) for node in ray.nodes())
    capsys.readouterr()

    def assigned(_):
        return ray.get_runtime_context().get_assigned_resources()["memory"]

    assert list(started.map(assigned, [1, 2, 3], memory_bytes=largest + engine.GIB)) == [largest] * 3
    (line,) = capsys.readouterr().out.splitlines()
    assert "GiB of memory, and the largest node has" in line


def test_a_task_raises_its_own_error(started):
    def fail(job):
        raise KeyError(job)

    with pytest.raises(KeyError, match="seven"):
        list(started.map(fail, ["seven"]))


class NoLease:
    def check(self):
        pass


def test_a_unit_that_ends_every_worker_costs_one_image_and_no_other_unit(started, tmp_path, monkeypatch):
    names = tuple(f"p{i:02d}.png" for i in range(24))
    deadly = stage(tmp_path / "made", lambda found: "p05.png" in found)
    monkeypatch.setattr(dataset, "ScoreStage", deadly)
    monkeypatch.setattr(dataset, "RETRIES", 1)
    monkeypatch.setattr(alone, "ScoreStage", deadly)
    monkeypatch.setattr(alone, "TRIES", 1)
    config, progress = planned(tmp_path, names), RunProgress(planned=len(names))
    store = open_store(config.scoring.source.input_uri)
    still_open = score_units(
        *(config, 6, 0, started, NoLease(), store, Patience(window_units=4, outage_s=0), progress), lambda now: None
    )
    assert still_open == {} and (progress.done, progress.errors) == (24, 1)
    assert committed(config) == {**dict.fromkeys(names), "p05.png": WORKER_DIED}


def test_a_stream_whose_workers_all_die_ends(started, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "ScoreStage", stage(tmp_path / "made", lambda found: True))
    monkeypatch.setattr(dataset, "RETRIES", 0)
    monkeypatch.setattr(dataset, "LOST_TASKS", 1)
    config = planned(tmp_path, tuple(f"p{i}.png" for i in range(9)))
    with pytest.raises(WorkersDie, match="workers must survive; more than 1 tasks of one run ended theirs.*repeat the command"):
        list(started.stream([WorkItem(number) for number in range(3)], config))


def test_a_map_whose_worker_dies_again_and_again_ends(started):
    def die(_):
        os._exit(3)

    with pytest.raises(WorkersDie, match="WorkerCrashedError"):
        list(started.map(die, [1]))


def test_a_scorer_that_refuses_ends_the_stream_and_what_fed_it():
    ended = []

    def outcomes():
        try:
            yield from (Outcome(1, 0, scored=3), Outcome(2, 0, refused="node n7 has no GPU"), Outcome(3, 0))
        finally:
            ended.append(True)

    seen = []
    with pytest.raises(ScorerRefuses, match="node n7 has no GPU"):
        for outcome in RayEngine(None, Resources(), "cpu")._unless_refused(outcomes()):
            seen.append(outcome)
    assert seen == [Outcome(1, 0, scored=3)] and ended


@pytest.fixture
def lacking():
    """An engine of a cluster to which an autoscaler has added a node without credentials."""

    class NewNode:
        def check(self, later):
            raise NodeLacks("node n9 has no credentials")

    found = RayEngine("head:6379", Resources(), "cpu")
    found._nodes = NewNode()
    return found


def test_the_first_outcome_of_a_stream_asks_nodes_that_have_come_since_the_last(lacking):
    with pytest.raises(NodeLacks, match="node n9"):
        list(lacking._unless_refused(outcome for outcome in [Outcome(1, 0, errors=3)]))


OPEN = Outcome(3, 0, message="AccessDenied")


@pytest.mark.parametrize(
    ("every_s", "third", "looks"), [(1000.0, Outcome(3, 0), 1), (1000.0, OPEN, 2), (0.0, Outcome(3, 0), 3)]
)
def test_a_run_looks_for_new_nodes_now_and_then_and_once_storage_leaves_a_unit_open(
    lacking, monkeypatch, every_s, third, looks
):
    seen = []

    class Nodes:
        def check(self, later):
            seen.append(later)

    monkeypatch.setattr(engine, "LOOK_EVERY_S", every_s)
    monkeypatch.setattr(lacking, "_nodes", Nodes())
    outcomes = [Outcome(1, 0, scored=3), Outcome(2, 0, errors=3), third]
    assert list(lacking._unless_refused(outcome for outcome in outcomes)) == outcomes
    assert seen == [True] * looks


def test_nodes_are_asked_again_once_storage_refuses_a_task(started, lacking, monkeypatch):
    def refused(_):
        raise Denied("AccessDenied")

    monkeypatch.setattr(lacking, "_resources", started.start())
    with pytest.raises(NodeLacks, match="node n9"):
        list(lacking.map(refused, [1]))
    monkeypatch.setattr(lacking, "_nodes", None)
    with pytest.raises(Denied):
        list(lacking.map(refused, [1]))


def test_a_cluster_is_joined_with_the_listing_where_the_input_may_not_be_listed(ray_runs, tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "in"))
    store.put("a.png", b"x")
    whole = type(store).list

    def refuses(self, *rest):
        if self.uri == store.uri:
            raise Denied("AccessDenied")
        return whole(self, *rest)

    monkeypatch.setattr(type(store), "list", refuses)
    (tmp_path / "listing.csv").write_text("key,size,etag\na.png,1,e\n")
    run = SourceConfig(input_uri=store.uri), Ledger(str(tmp_path / "out"), "m")
    with pytest.raises(Denied):
        RayEngine("head:6379", Resources(), "cpu").join(*run)
    RayEngine("head:6379", Resources(), "cpu").join(*run, ListingFile(tmp_path / "listing.csv"))


def test_a_ray_of_this_machine_is_not_joined_before_there_is_work(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engine, "start_ray", lambda address: pytest.fail("started"))
    RayEngine(None, Resources(), "cpu").join(SourceConfig(input_uri="s3://in"), Ledger("s3://out", "m"))
