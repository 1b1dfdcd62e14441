import subprocess
import sys

import pytest
import ray
from pydantic import ValidationError

from models.faults import NoSuchDevice
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.stages.cluster import DeviceMissing, Resources, check_device, scorers_on
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
        (32, 1, "cuda", {"scorer_gpus": 0.2}, 5, 0.2, 1),  # by floats 1 // 0.2 is 4
        (32, 1, "cuda", {"scorer_gpus": 0.1}, 10, 0.1, 1),  # and 1 // 0.1 is 9
        (32, 3, "cuda", {"scorer_gpus": 0.3}, 9, 0.3, 1),
        (32, 2, "cuda", {"scorer_gpus": 0.4}, 4, 0.4, 1),  # 0.2 of each GPU is left; no scorer lies on two
        (32, 2, "cuda", {"scorer_gpus": 0.6}, 2, 0.6, 1),
        (32, 5, "cuda", {"scorer_gpus": 2}, 2, 2, 1),
    ],
)
def test_who_gets_what(has, cpus, gpus, device, settings, scorers, gpus_each, threads):
    has(cpus, gpus)
    got = Resources(**settings).resolved(device)
    assert (got.scorers, got.scorer_gpus, got.threads) == (scorers, gpus_each, threads)
    assert got.device == ("cuda" if gpus_each else "cpu")
    assert {name for name, value in got.model_dump().items() if value is None} == {"tile_decoders"}


@pytest.mark.parametrize("children", [None, 4])
@pytest.mark.parametrize(("cpus", "gpus"), [(0.5, 0), (96, 2)])
def test_each_scorer_decides_how_many_children_decode_tiles_unless_it_is_set(has, cpus, gpus, children):
    """The head of a cluster may have no core, and nodes without a GPU have cores that no GPU's children can use."""
    has(cpus, gpus)
    resources = Resources(tile_decoders=children).resolved("cuda")
    assert resources.given(stage_config()).tile_decoders == children


def stage_config(**decode):
    sized = DecodeConfig(height=8, width=8, **decode)
    scoring = ScoringConfig(model="m", model_digest="d", source=SourceConfig(input_uri="s3://b"), decode=sized)
    return StageConfig(Ledger("s3://b", "m"), 0, scoring, "", "")


def test_a_slice_planned_for_a_decoder_on_a_gpu_is_refused_where_none_scores(has):
    config = stage_config(decoder="cuda")
    has(8)
    with pytest.raises(DeviceMissing, match="slice 0 must be run where a GPU scores: it was planned with decoder 'cuda'"):
        Resources().resolved("auto").given(config)
    has(8, 1)
    assert Resources().resolved("auto").given(config).device == "cuda"


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


@pytest.mark.parametrize("each", [1 / n for n in range(1, 30)] + [n / 100 for n in range(1, 101)])
def test_shares_that_are_counted_find_a_place(each):
    each = round(each, 4)
    most = next(count for count in range(1, 10_002) if count * round(each * 10_000) > 10_000) - 1
    assert scorers_on(1, each) == most and scorers_on(3.0, each) == 3 * most


@pytest.mark.parametrize("gpus", [0.33333, 1.5, 0.00001, float("inf"), float("nan"), -1])
def test_parts_of_gpus_that_ray_cannot_give_are_refused(gpus):
    with pytest.raises(ValidationError, match="scorer_gpus"):
        Resources(scorer_gpus=gpus)


@pytest.mark.parametrize("device", ["tpu", "gpu", "mps", "cuda:", "cuda:1", ""])
def test_what_is_no_device_is_refused_also_where_a_cluster_is_joined(device):
    with pytest.raises(NoSuchDevice, match="device must be auto, cpu or cuda; got"):
        check_device(Resources(), device, "ray://head:10001")


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cpu", 1), ("cpu", 0.5)])
def test_a_device_that_contradicts_the_scorers_gpus_is_refused_by_name(device, gpus):
    with pytest.raises(
        DeviceMissing, match=rf"resources\.scorer_gpus must fit device '{device}'; got {gpus}\. .* set device to"
    ):
        check_device(Resources(scorer_gpus=gpus), device, "ray://head:10001")


@pytest.mark.parametrize(
    ("device", "settings", "given"),
    [("auto", {"scorer_gpus": 0}, ("cpu", 1.0)), ("auto", {}, ("cuda", 1.0)), ("cuda", {"scorer_gpus": 0.25}, ("cuda", 0.25))],
)
def test_scorers_are_told_what_was_decided(has, device, settings, given):
    """`auto` with no GPU for scorers means the CPU, also on nodes that have GPUs."""
    has(16, 4)
    resources = Resources(**settings).resolved(device)
    config = resources.given(stage_config())
    assert (config.device, config.gpu_share) == given and config.threads == resources.threads


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
