"""Nodes and processes of a Ray cluster die while a run is under way, and others join."""

import contextlib
import random
import subprocess
import sys
from collections import Counter

import psutil
import pytest
import yaml
from conftest import new_bucket
from e2e_archives import ROOT, encoded
from fault_proxy import Fault, FaultProxy
from ray.cluster_utils import Cluster

from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

UNIT_IMAGES = 8
STAGES = ("read_and_decode", "ScoreStage", "commit")
NODES = 3
STORE_BYTES = 200 << 20
DONE_TWICE = 0.1


@pytest.fixture
def cluster(s3, monkeypatch):
    """A head and three nodes of one CPU. Their workers reach S3 through a proxy that delays every answer, as a network
    does, and records every read."""
    with FaultProxy(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES})
        nodes = [add_node(made) for _ in range(NODES)]
        yield made, nodes, proxy
        made.shutdown()


def add_node(made, gpus=0):
    return made.add_node(num_cpus=1, num_gpus=gpus, object_store_memory=STORE_BYTES)


class Run:
    """`flowscore score` of some images on the cluster; `twice` counts those that were read more than once."""

    def __init__(self, made, proxy, s3, model, folder, images, **resources):
        self.images, self.proxy, self.bucket = images, proxy, new_bucket(s3)
        store = open_store(f"{self.bucket}/in")
        for i in range(images):
            store.put(f"{i:05d}.png", encoded(i))
        config = folder / "config.yaml"
        resources = {"threads": 1, "scorers": 2} | resources
        config.write_text(yaml.safe_dump({"source": {"unit_images": UNIT_IMAGES}, "resources": resources}))
        proxy.arm(Fault("delay", 0, times=10**9))
        places = ["--model", model, "--input", f"{self.bucket}/in", "--output", f"{self.bucket}/out"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "score", *places, "--config", config, "--address", made.address],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.driver.kill()
        self.driver.wait()

    def still_runs(self, seconds):
        """Whether the driver is still running after this many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.driver.wait(seconds)
        return self.driver.poll() is None

    def commits(self):
        return sum("/commits/" in r.key and r.method == "PUT" and r.done for r in self.proxy.passed)

    def twice(self):
        """How many images were read again, after a check that each is scored once."""
        said = self.log.read_text()
        assert self.driver.returncode == 0, said[-3000:]
        counts = open_tables(f"{self.bucket}/out").connection.execute("select count(*), count(distinct image_id) from scores")
        assert counts.fetchone() == (self.images, self.images)
        reads = Counter(r.key for r in self.proxy.passed if r.method == "GET" and r.done and "/in/" in r.key and not r.listing)
        return sum(reads.values()) - self.images


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_node_killed_every_30_seconds_and_one_that_joins(cluster, s3, marking_model, tmp_path):
    made, nodes, proxy = cluster
    killed = 0
    with Run(made, proxy, s3, marking_model, tmp_path, images=2000) as run:
        while run.still_runs(30.0):
            made.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(add_node(made))
            killed += 1
    twice = run.twice()
    print(f"{killed} nodes killed; {twice} of {run.images} images read again, {twice / run.images:.1%}")
    assert killed >= 3
    assert twice <= DONE_TWICE * run.images


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_processes_of_all_stages_killed_at_random(cluster, s3, marking_model, tmp_path):
    made, nodes, proxy = cluster
    rng = random.Random(0)
    killed = Counter()
    with Run(made, proxy, s3, marking_model, tmp_path, images=800) as run:
        while run.still_runs(12.0):
            at_work = [process for process in workers(made) if run.commits()]
            if at_work:
                name, process = rng.choice(at_work)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed[name] += 1
    run.twice()
    print(dict(killed))
    assert {"read_and_decode", "commit"} & set(killed) and sum(killed.values()) >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_without_gpus_is_asked_for_them_and_waited_for(cluster, s3, marking_model, tmp_path):
    """To Ray a GPU is a number: this node has no real one, so the scorer that finds a place there refuses, and the run ends."""
    made, _, proxy = cluster
    with Run(made, proxy, s3, marking_model, tmp_path, images=40, scorer_gpus=1, scorer_cpus=0.5) as run:
        for _ in range(100):
            if "waiting until its autoscaler brings the first" in run.log.read_text():
                break
            assert run.still_runs(1.0), run.log.read_text()
        assert run.still_runs(5.0) and run.commits() == 0
        add_node(made, gpus=1)
        run.driver.wait(300)
        assert run.commits() == 0
    said = run.log.read_text()
    assert said.count("asked for them") == 1
    assert run.driver.returncode == 2 and "Traceback" not in said, said
    *_, last, code = said.splitlines()
    assert " exit 2: " in code, said
    assert "must find the GPU that it was told to score on; Ray gave it GPU 0" in last and "--device cpu" in last, said


def workers(made):
    """(stage, process) of the Ray workers in which a stage runs now."""
    found = []
    for node in made.list_all_nodes():
        for started in node.all_processes["raylet"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(started.process.pid).children(recursive=True):
                    title = " ".join(process.cmdline())
                    found += [
                        (stage, process) for stage in ("read_and_decode", "ScoreStage", "commit") if f"({stage})" in title
                    ]
    return found
