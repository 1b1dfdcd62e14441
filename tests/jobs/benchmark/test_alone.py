"""What the bench says of a GPU, with a scorer that only counts."""

import torch

from jobs.benchmark.alone import alone
from jobs.benchmark.ceilings import Ceilings
from models.operations import OperationCount
from pipeline.decode.config import DecodeConfig


class Instant:
    batch_size = 2

    def __init__(self, device):
        self.device = device

    def __call__(self, pixels):
        assert pixels.shape[1:] == (8, 8, 3)

    def count(self):
        with OperationCount() as counted:
            torch.ones(100, 100) @ torch.ones(100, 100)
        return counted


def figures(device):
    best = Ceilings({"float32": 1e9}, 1e9)
    found, _ = alone(Instant(device), DecodeConfig(height=8, width=8), best, threads=1, seconds=0)
    return {figure.name: figure for figure in found}


def test_the_memory_of_a_gpu_is_a_figure(monkeypatch):
    peaks = {"allocated": 7 << 30, "reserved": 9 << 30}  # of the ceilings, which come before

    def forget(device):
        assert device == "cuda"
        peaks.update(allocated=3 << 20, reserved=5 << 20)

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forget)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks["allocated"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peaks["reserved"])
    found = figures("cuda")
    assert [found[f"gpu_{kind}_peak_mib"][1:] for kind in ("allocated", "reserved")] == [(3, "MiB"), (5, "MiB")]
    assert not [name for name in figures("cpu") if name.startswith("gpu")]
