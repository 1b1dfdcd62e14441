"""The same bits in another process, with little memory free, and in four shares of one GPU at once."""

from collections.abc import Iterator
from typing import Any

import torch
from cases import bits
from cases.place import Place
from cases.subjects import DETECTORS, changed, trained

from models import artifact
from models.arithmetic import set_arithmetic
from pipeline.scoring.scorer import Scorer

KEPT_FREE = 3 << 30  # bytes, under pressure
SHARE = 0.25
SOME = ("csflow", "patchsvdd")


def again(place: Place, _: int) -> Iterator[dict[str, Any]]:
    """A second process gives the bits that `correctness` wrote down."""
    for detector in DETECTORS:
        yield {"detector": detector} | _compared(place, detector, place.precisions)


def under_pressure(place: Place, _: int) -> Iterator[dict[str, Any]]:
    free, _total = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - KEPT_FREE), dtype=torch.uint8, device="cuda")
    for detector in SOME:
        yield {"detector": detector, "held_gib": round(held.numel() / 2**30, 1)} | _compared(place, detector, place.precisions)


def in_a_share(place: Place, number: int) -> Iterator[dict[str, Any]]:
    set_arithmetic()  # before CUDA starts
    torch.cuda.set_per_process_memory_fraction(SHARE)
    for detector in SOME:
        yield {"detector": detector, "share": number} | _compared(place, detector, ("fp16",))


def _compared(place: Place, detector: str, precisions: tuple[str, ...]) -> dict[str, Any]:
    if not (place.folder / f"{detector}-{precisions[-1]}.bits").exists():
        return {"ok": None, "needs": f"the case correctness-{detector} before it"}
    same = {}
    for precision in precisions:
        model = artifact.load(changed(trained(detector, place), precision=precision), place.device)
        found = bits.scored(Scorer(model, place.device, threads=2), place.tiles())
        same[precision] = found == (place.folder / f"{detector}-{precision}.bits").read_text()
    return {"ok": all(same.values()), **same}
