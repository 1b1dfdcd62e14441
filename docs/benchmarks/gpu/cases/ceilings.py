"""The most that the device can do, measured on random data."""

from collections.abc import Iterator
from typing import Any

from cases.place import Place

from jobs.benchmark import ceilings

SECONDS = {"cuda": 1.0, "cpu": 0.05}


def run(place: Place, _: int) -> Iterator[dict[str, Any]]:
    best = ceilings.measure(place.device, SECONDS[place.device])
    yield {
        "tflop_per_s": {kind: round(flops / 1e12, 2) for kind, flops in best.flops_per_s.items()},
        "copy_gb_per_s": round(best.bytes_per_s / 1e9, 1),
    }
