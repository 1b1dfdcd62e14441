import subprocess
import sys

import pytest
import ray

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.stages.cluster import DeviceMissing, Resources, check_device
from pipeline.stages.config import StageConfig
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig


@pytest.fixture
def has(monkeypatch):
    """Lets the connected cluster have so many CPUs and GPUs."""

    def give(cpus, gpus=0.0):
        total = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
        monkeypatch.setattr(ray, "cluster_resources", lambda: total)

    return give


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "settings", "scorers", "gpus_each", "threads"),
    [
        (2, 0, "auto", {}, 1, 0, 2),
        (32, 0, "auto", {}, 4, 0, 8),
        (32, 4, "auto", {}, 4, 1, 1),
        (32, 4, "cpu", {}, 4, 0, 8),
        (32, 4, "auto", {"scorer_gpus": 0.5}, 8, 0.5, 1),
        (32, 4, "auto", {"scorer_gpus": 0}, 4, 0, 8),
        (32, 4, "cuda", {"scorers": 2}, 2, 1, 1),
        (0.5, 0, "cuda", {}, 1, 1, 1),  # a head that only drives; its autoscaler has started nothing yet
        (16, 0, "cuda", {"scorers": 8}, 8, 1, 1),
        (16, 0, "auto", {"scorers": 8, "scorer_gpus": 1}, 8, 1, 1),
        (16, 1, "cuda", {"scorers": 8}, 8, 1, 1),
    ],
)
def test_who_gets_what(has, cpus, gpus, device, settings, scorers, gpus_each, threads):
    has(cpus, gpus)
    got = Resources(**settings).resolved(device)
    assert (got.scorers, got.scorer_gpus, got.threads) == (scorers, gpus_each, threads)
    assert all(value is not None for value in got.model_dump().values())


@pytest.mark.parametrize(
    ("cpus", "gpus", "settings", "children"),
    [
        (2, 0, {}, 2),
        (32, 0, {}, 8),
        (32, 0, {"threads": 3}, 3),  # they share the cores of the threads that score
        (32, 2, {}, 15),  # all cores of a GPU but the one that drives it
        (1, 1, {}, 1),
        (32, 2, {"tile_decoders": 4}, 4),
    ],
)
def test_how_many_children_decode_tiles(has, cpus, gpus, settings, children):
    has(cpus, gpus)
    assert Resources(**settings).resolved("auto").tile_decoders == children


def test_a_decoder_on_a_gpu_is_refused_where_none_scores(has):
    decode = DecodeConfig(height=8, width=8, decoder="cuda")
    scoring = ScoringConfig(model="m", model_digest="d", source=SourceConfig(input_uri="s3://b"), decode=decode)
    config = StageConfig(Ledger("s3://b", "m"), 0, scoring, "", "")
    has(8)
    with pytest.raises(DeviceMissing, match="decoder must be cpu where no GPU scores; got 'cuda'"):
        Resources().resolved("auto").applied(config)
    has(8, 1)
    assert Resources().resolved("auto").applied(config).tile_decoders == 7


@pytest.mark.parametrize(("device", "gpus", "waits"), [("cuda", 0, True), ("cuda", 1, False), ("auto", 0, False)])
def test_waiting_for_gpus_is_said(has, device, gpus, waits):
    has(16, gpus)
    sentence = Resources().resolved(device).sentence()
    assert ("waiting until its autoscaler brings the first" in sentence) == waits
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("settings", "device", "named"),
    [({}, "cuda", "device='cuda'"), ({"scorer_gpus": 0.5}, "auto", "resources.scorer_gpus=0.5")],
)
def test_a_gpu_that_is_not_here_is_refused_unless_a_cluster_may_bring_it(monkeypatch, settings, device, named):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceMissing, match=f"device must be one that this machine has; got {named}, .* --address"):
        check_device(Resources(**settings), device, None)
    check_device(Resources(**settings), device, "ray://head:10001")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_device(Resources(**settings), device, None)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_device(Resources(**settings), device, None)


@pytest.mark.parametrize("device", ["tpu", "gpu", "cuda:", ""])
def test_what_is_no_device_is_refused_also_where_a_cluster_is_joined(device):
    with pytest.raises(DeviceMissing, match="device must be auto, cpu or cuda; got"):
        check_device(Resources(), device, "ray://head:10001")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_no_gpu_is_looked_for_when_none_is_asked_for(monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("looked"))
    check_device(Resources(), device, None)


STARVED = """
import os, ray
from pipeline.stages.cluster import start_ray
os.environ |= {
    "RAY_memory_usage_threshold": "0.01",  # less than every machine uses, so that Ray ends each task at once
    "RAY_memory_monitor_refresh_ms": "100",
    "RAY_task_oom_retry_delay_base_ms": "1",
}
start_ray(None)
try:
    ray.get(ray.remote(max_retries=3)(lambda: __import__("time").sleep(60)).remote(), timeout=100)
except ray.exceptions.OutOfMemoryError:
    print("given up")
ray.shutdown()
"""


def test_ray_does_not_retry_a_task_without_memory_for_ever():
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=200)
    assert "given up" in done.stdout, done.stdout + done.stderr
