"""Measures the best that a device can do: products of large matrices, and copying memory."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from models.arithmetic import set_arithmetic
from pipeline.scoring.device import Device

SIDE: dict[Device, int] = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES: dict[Device, int] = {"cpu": 256 << 20, "cuda": 4 << 30}
SECONDS = 1.0


@dataclass(frozen=True)
class Ceilings:
    """A device's limits. flops_per_s: by type of the operands ("bfloat16"); a multiplication and an addition are two.
    bytes_per_s: bytes read and written by a copy that no cache holds."""

    flops_per_s: dict[str, float]
    bytes_per_s: float

    def least_seconds(self, flops: Mapping[str, float], bytes: float) -> float:
        """The roofline: a computation of these operations and bytes takes at least so long, if it reads the bytes from memory.
        Source: Williams et al. 2009, Roofline, doi:10.1145/1498765.1498785."""
        return max(sum(count / self.flops_per_s[kind] for kind, count in flops.items()), bytes / self.bytes_per_s)


def measure(device: Device, seconds: float = SECONDS) -> Ceilings:
    """The best try within `seconds` for each ceiling, with the threads that torch has now.

    The numbers are random: a GPU takes less power for ones, and so runs them faster than it ever runs a model.
    """
    set_arithmetic()
    side, copied = SIDE[device], COPIED_BYTES[device]
    flops = {}
    for dtype in (torch.float32, torch.bfloat16, *([] if device == "cpu" else [torch.float16])):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        flops[str(dtype).removeprefix("torch.")] = 2 * side**3 / _best(partial(torch.mm, a, b), device, seconds)
    flops.setdefault("float16", flops["float32"])  # a CPU computes fp16 in float32
    source = torch.rand(copied // 4, device=device)
    target = torch.empty_like(source)
    return Ceilings(flops, 2 * copied / _best(lambda: target.copy_(source), device, seconds))


def _best(computation: Callable[[], object], device: Device, seconds: float) -> float:
    """Seconds of the fastest try."""
    best, end = float("inf"), time.perf_counter() + seconds
    computation()
    while time.perf_counter() < end or best == float("inf"):
        _wait(device)
        clock = time.perf_counter()
        computation()
        _wait(device)
        best = min(best, time.perf_counter() - clock)
    return best


def _wait(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize(device)
