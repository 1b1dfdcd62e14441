"""What a real head says, here that of a Ray on this machine; tests/e2e/test_joining.py asks one that others started."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from pipeline.stages.cluster_address import check_cluster
from pipeline.stages.joining import facts
from pipeline.stages.joining.facts import ClusterFacts, ClusterNode, NotJoined, ask_head, check_may_join

ROOT = Path(__file__).parents[4]
FOREVER = float("inf")


@pytest.fixture
def head(ray_runs):
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host, int(port)


def test_the_head_says_versions_and_nodes(head):
    found = ask_head(*head, FOREVER)
    assert (found.ray, found.python) == (ray.__version__, platform.python_version())
    (node,) = found.nodes
    assert node.node_id == ray.nodes()[0]["NodeID"] and node.cpus == ray.cluster_resources()["CPU"]
    assert check_may_join(found, *head, FOREVER) == found


def test_a_head_is_found_by_its_address(head, monkeypatch):
    host, port = head
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # a process that has joined asks no address
    cluster = check_cluster(f"{host}:{port}")
    assert cluster.address == f"{host}:{port}" and cluster.facts == ask_head(host, port, FOREVER)


ASK = "import sys; from pipeline.stages.cluster_address import check_cluster; check_cluster(sys.argv[1])"


def test_a_wrong_token_is_said(head):
    """A Ray that starts on this machine makes a token, unless the environment says that it wants none."""
    if not facts._sends_a_token():
        pytest.fail("the local Ray of the tests wants no token")
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    command = [sys.executable, "-c", ASK, f"{head[0]}:{head[1]}"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **wrong}, capture_output=True, text=True, timeout=60)
    assert "NoCluster: address must be" in done.stderr and "another token than this process sends" in done.stderr


def node(number):
    return ClusterNode(f"{number:056x}", "10.0.0.1", 4.0, 0.0)


@pytest.mark.parametrize("there", [("2.1.0", platform.python_version()), (ray.__version__, "3.8.1")])
def test_other_versions_are_said_from_both_sides(there):
    with pytest.raises(NotJoined) as caught:
        check_may_join(ClusterFacts(*there, (node(1),)), "head", 6379, FOREVER)
    here = f"here are Ray {ray.__version__} and Python {platform.python_version()}"
    assert str(caught.value) == f"Ray {there[0]} on Python {there[1]} runs; {here}"
    assert "same versions" in caught.value.fix


def test_a_cluster_without_a_node_on_this_machine(monkeypatch):
    monkeypatch.setattr(facts, "nodes_here", set)
    with pytest.raises(NotJoined, match="2 node.s. are alive, and none of them is on this machine") as caught:
        check_may_join(ClusterFacts("", "", (node(1), node(2))), "head", 6379, FOREVER)
    assert "`ray job submit`" in caught.value.fix


def test_a_node_that_is_just_starting_is_waited_for(monkeypatch):
    monkeypatch.setattr(facts, "nodes_here", lambda: {node(2).node_id})
    later = ClusterFacts("", "", (node(1), node(2)))
    monkeypatch.setattr(facts, "ask_head", lambda host, port, until: later)
    assert check_may_join(ClusterFacts("", "", (node(1),)), "head", 6379, FOREVER) == later


def test_a_node_is_waited_for_no_longer_than_there_is_time(monkeypatch):
    monkeypatch.setattr(facts, "nodes_here", lambda: {node(2).node_id})
    monkeypatch.setattr(facts, "ask_head", lambda host, port, until: pytest.fail("asked again"))
    with pytest.raises(NotJoined, match="none of them is on this machine"):
        check_may_join(ClusterFacts("", "", (node(1),)), "head", 6379, time.monotonic())


@pytest.mark.parametrize(("left_s", "least", "most"), [(-3.0, 0.1, 0.1), (4.0, 3.0, 4.0), (60.0, 10.0, 10.0)])
def test_a_request_gets_the_time_that_is_left(left_s, least, most):
    given = []
    facts._answer(lambda request, timeout: given.append(timeout), None, time.monotonic() + left_s)
    assert least <= given[0] <= most
