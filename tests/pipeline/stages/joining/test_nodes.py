import os
import time
from unittest import mock

import pytest
import ray

from pipeline.input.config import SourceConfig
from pipeline.input.listing_file import ListingFile
from pipeline.stages.joining import nodes
from pipeline.stages.joining.node_view import Lack, Places, lacks
from pipeline.stages.joining.nodes import Answer, NodeLacks, Nodes, judge
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Denied, Unreachable
from pipeline.storage.store import open_store

READ = Lack("read the input", "s3://plant/in", "AccessDenied (403)", "credentials from the instance role, endpoint https://e")
WRITE = Lack("write to the output", "s3://plant/out", "AccessDenied (403)", "no credentials, endpoint https://e")
FOLDER = Lack("read the input", "file:///data/in", "'a.png': No such file; the driver sees it", "its own disks")


def said(answers, on_driver=()):
    with pytest.raises(NodeLacks) as caught:
        judge(answers, lambda: list(on_driver))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_line_names_the_node_what_it_lacks_and_the_way_there():
    line = said([Answer("node n1", []), Answer("node n2", [READ]), Answer("node n3", [READ])])
    assert line.startswith("every node must reach input and output as the driver does; got node n2 and 1 more, which cannot ")
    assert "cannot read the input s3://plant/in: AccessDenied (403). It uses credentials from the instance role" in line
    assert 'docs/operating.md, "What nodes need"' in line


def test_a_folder_that_a_node_does_not_see():
    line = said([Answer("node n2", [FOLDER])])
    assert "the driver sees it. It uses its own disks. Mount the folder at this path on every node, or use a bucket" in line


def test_what_fails_on_the_driver_too_is_no_node_s_fault():
    judge([Answer("node n1", [READ])], lambda: [READ._replace(said="Archived")])
    assert "cannot write to the output" in said([Answer("node n1", [READ, WRITE])], [READ])


def test_the_driver_is_not_asked_again_where_nothing_fails():
    judge([Answer("node n1", []), Answer("node n2", [])], lambda: pytest.fail("asked"))


def test_storage_that_the_driver_does_not_reach_either_is_no_node_s_fault():
    away = READ._replace(step="list the input", said="Connect timeout")
    judge([Answer("node n1", [away])], lambda: [away])


def test_a_node_without_the_code_says_so():
    line = said([Answer("node n1", []), Answer("node n2", [], "ModuleNotFoundError: No module named 'pipeline'")])
    assert "every node must be able to run flowscore; got node n2, where ModuleNotFoundError" in line


@pytest.fixture
def run(tmp_path):
    """Arguments of a check of an input with one image."""
    open_store(str(tmp_path / "in")).put("a.png", b"x")
    return SourceConfig(input_uri=str(tmp_path / "in")), str(tmp_path / "out"), "_flowscore/ledgers/m"


def test_every_node_is_asked_once_and_nothing_is_left(ray_runs, run):
    cluster = Nodes(*run)
    assert cluster.check() == len([node for node in ray.nodes() if node["Alive"]])
    assert list(open_store(run[1]).list()) == []
    open_store(run[0].input_uri).delete("a.png")
    assert cluster.check() == 1  # nobody is asked: what is new on the nodes would not be seen


def refuses_to_list(self, *rest, whole=LocalStore.list):
    """In place of LocalStore.list: the input may be read, and not listed."""
    if self.uri.endswith("/in"):
        raise Denied("AccessDenied (403)")
    return whole(self, *rest)


@pytest.mark.parametrize("later", [False, True])
def test_with_a_listing_nobody_needs_the_right_to_list(ray_runs, run, monkeypatch, tmp_path, later):
    refuses, driver = refuses_to_list, os.getpid()

    def tried(packed):
        with mock.patch.object(LocalStore, "list", refuses):
            return "it ran on the driver" if os.getpid() == driver else lacks(Places.of_json(packed))

    def given(key):
        (tmp_path / "listing.csv").write_text(f"key,size,etag\n{key},1,e\n")
        return ListingFile(tmp_path / "listing.csv")

    monkeypatch.setattr(nodes, "trial", lambda: tried)
    with pytest.raises(NodeLacks, match="cannot list the input"):
        Nodes(*run).check(later)
    monkeypatch.setattr(LocalStore, "list", refuses)
    with pytest.raises(Denied):
        Nodes(*run).check(later)
    assert Nodes(*run, given("a.png")).check(later) == 1
    Nodes(*run, given("gone.png")).check(later)  # no node's fault: the driver does not find it either


def test_a_node_that_lacks_something_is_named(ray_runs, run, monkeypatch):
    address, read = ray.nodes()[0]["NodeManagerAddress"], READ

    monkeypatch.setattr(nodes, "trial", lambda: lambda packed: [read])
    with pytest.raises(NodeLacks, match=rf"got node {address} \([0-9a-f]{{8}}\), which cannot read the input"):
        Nodes(*run).check()
    assert list(open_store(run[1]).list()) == []


def test_storage_that_does_not_answer_a_node_ends_no_run_that_is_under_way(ray_runs, run, monkeypatch):
    read = READ._replace(away=True)
    monkeypatch.setattr(nodes, "trial", lambda: lambda packed: [read])
    with pytest.raises(NodeLacks):
        Nodes(*run).check()
    assert Nodes(*run).check(later=True) == 0


def test_storage_that_does_not_answer_a_node_twice_while_it_answers_the_driver_is_named(ray_runs, run, monkeypatch):
    read = READ._replace(away=True, said="Connect timeout")
    cluster = Nodes(*run)
    monkeypatch.setattr(nodes, "trial", lambda: lambda packed: [read])
    assert cluster.check(later=True) == 0
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "trial", lambda: pytest.fail("asked again at once"))
        assert cluster.check(later=True) == 0
    monkeypatch.setattr(nodes, "AWAY_AGAIN_S", 0.0)
    cluster = Nodes(*run)
    assert cluster.check(later=True) == 0
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "lacks", lambda places: [read])
        assert cluster.check(later=True) == 0  # the driver does not reach it now
    with pytest.raises(NodeLacks, match="cannot read the input .*: Connect timeout"):
        cluster.check(later=True)


def test_a_node_whose_storage_answers_again_is_not_asked_further(ray_runs, run, monkeypatch):
    read, written = READ._replace(away=True), WRITE._replace(away=True)
    monkeypatch.setattr(nodes, "AWAY_AGAIN_S", 0.0)
    cluster = Nodes(*run)
    for found, answered in (([read], 0), ([written], 0), ([], 1)):  # each place for the first time
        monkeypatch.setattr(nodes, "trial", lambda found=found: lambda packed: found)
        assert cluster.check(later=True) == answered
    monkeypatch.setattr(nodes, "trial", lambda: pytest.fail("asked again"))
    assert cluster.check(later=True) == 1


def test_a_node_that_was_too_slow_is_asked_again_with_more_time(ray_runs, run, monkeypatch):
    folder = FOLDER
    monkeypatch.setattr(nodes, "trial", lambda: lambda packed: time.sleep(60))
    monkeypatch.setattr(nodes, "LATER_ANSWER_S", 0.0)
    cluster = Nodes(*run)
    assert cluster.check(later=True) == 0
    monkeypatch.setattr(nodes, "trial", lambda: lambda packed: [folder])
    with pytest.raises(NodeLacks, match="cannot read the input file:///data/in"):
        cluster.check(later=True)


def test_a_node_without_our_packages_is_said_in_one_line(ray_runs, run, monkeypatch):
    def tried(packed):
        import sys

        ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "pipeline"}
        sys.modules.update(dict.fromkeys([*ours, "pipeline"]))  # None, as Python marks what cannot be imported
        try:
            return whole(packed)
        finally:
            del sys.modules["pipeline"]
            sys.modules.update(ours)

    whole = nodes.trial()
    monkeypatch.setattr(nodes, "trial", lambda: tried)
    with pytest.raises(NodeLacks, match=r"where ModuleNotFoundError: .*pipeline.*\. Give the nodes") as caught:
        Nodes(*run).check()
    assert "\n" not in str(caught.value)


def test_a_node_that_is_slow_or_dies_is_passed_over_with_a_line(ray_runs, run, monkeypatch):
    warned = []
    monkeypatch.setattr(nodes.log, "warning", lambda line, *values: warned.append(line % values))

    def slow(packed):
        time.sleep(60)

    def dies(packed):
        os._exit(3)

    monkeypatch.setattr(nodes, "trial", lambda: dies)
    assert Nodes(*run).check() == 0
    monkeypatch.setattr(nodes, "trial", lambda: slow)
    monkeypatch.setattr(nodes, "ANSWER_S", 0.1)
    assert Nodes(*run).check() == 0
    assert "has not said what it can reach (WorkerCrashedError); going on" in warned[0]
    assert "has not said within 0 s what it can reach" in warned[1] and len(warned) == 2


def test_nodes_where_no_work_is_done_are_not_asked(run, monkeypatch):
    head = {"NodeID": "a", "Alive": True, "Resources": {"memory": 1e9}}
    gone = {"NodeID": "b", "Alive": False, "Resources": {"CPU": 4.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [head, gone])
    assert Nodes(*run).check() == 0


def test_what_the_driver_cannot_reach_is_its_own_error(ray_runs, run, monkeypatch):
    def away(*_):
        raise Unreachable("no answer")

    monkeypatch.setattr(type(open_store(run[1])), "list", away)
    cluster = Nodes(*run)
    with pytest.raises(Unreachable):
        cluster.check()
    assert cluster.check(later=True) == 0  # a run that is under way waits for storage
    monkeypatch.undo()
    assert cluster.check(later=True) == 1
