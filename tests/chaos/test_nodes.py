"""Nodes of a Ray cluster die while a run is under way, and another joins."""

import subprocess
import sys
from collections import Counter

import pytest
import yaml
from conftest import new_bucket
from e2e_archives import ROOT, encoded
from fault_proxy import Fault, FaultProxy
from ray.cluster_utils import Cluster

from pipeline.query import connect
from pipeline.storage import open_store

IMAGES, UNIT_IMAGES = 2000, 8
KILL_EVERY_S = 30.0
STORE_BYTES = 200 << 20
DONE_TWICE = 0.1


@pytest.fixture
def cluster(s3, monkeypatch):
    """A head and three nodes of one CPU. Their workers reach S3 through a proxy that makes every answer late, as a network
    does, and writes down what is read."""
    with FaultProxy(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES})
        nodes = [made.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(3)]
        yield made, nodes, proxy
        made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_node_killed_every_30_seconds_and_one_that_joins(cluster, s3, marking_model, tmp_path):
    made, nodes, proxy = cluster
    bucket = new_bucket(s3)
    store = open_store(f"{bucket}/in")
    for i in range(IMAGES):
        store.put(f"{i:05d}.png", encoded(i))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"source": {"unit_images": UNIT_IMAGES}, "resources": {"threads": 1, "scorers": 2}}))
    proxy.arm(Fault("delay", 0, times=10**9))
    arguments = ["--model", marking_model, "--input", f"{bucket}/in", "--output", f"{bucket}/out", "--config", str(config)]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", "score", *arguments, "--address", made.address],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    killed = 0
    try:
        while _still_running(driver, KILL_EVERY_S):
            made.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(made.add_node(num_cpus=1, object_store_memory=STORE_BYTES))
            killed += 1
        code = driver.wait(600)
    finally:
        driver.kill()
    said = (tmp_path / "log").read_text()
    assert code == 0, said[-3000:]
    assert killed >= 2, f"the run was over after {killed} kills"
    counts = connect(f"{bucket}/out").connection.execute("select count(*), count(distinct image_id) from scores").fetchone()
    assert counts == (IMAGES, IMAGES)
    reads = Counter(r.key for r in proxy.passed if r.method == "GET" and r.done and "/in/" in r.key and not r.listing)
    twice = sum(reads.values()) - IMAGES
    print(f"{killed} nodes killed, {IMAGES} images, {twice} read again ({twice / IMAGES:.1%})")
    assert twice <= DONE_TWICE * IMAGES


def _still_running(driver, seconds):
    """Whether the driver was still at work after so many seconds."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False
