"""Copying to the device and back, and whether the scorer's lanes hide it."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from cases.place import Place
from cases.rates import MOBILENET, opened, pictures
from cases.subjects import changed

from models import artifact
from pipeline.scoring.scorer import Scorer

BYTES = 1 << 30
BATCH, BATCHES = 64, 40


def run(place: Place, _: int) -> Iterator[dict[str, Any]]:
    host, device = torch.zeros(BYTES, dtype=torch.uint8, pin_memory=True), torch.empty(BYTES, dtype=torch.uint8, device="cuda")
    yield {"to_device_gb_per_s": _gb_per_s(device, host), "to_host_gb_per_s": _gb_per_s(host, device)}
    model = artifact.load(changed(opened(MOBILENET, place), precision="fp16", batch_size=BATCH), place.device)
    scorer = Scorer(model, place.device)
    pixels = np.tile(pictures(MOBILENET, place, BATCH).cpu().numpy(), (BATCHES, 1, 1, 1))
    scorer(pixels)
    clock = time.perf_counter()
    found = scorer(pixels)
    took_s = time.perf_counter() - clock
    # Lanes hide the copies if the whole takes little longer than what the device computed.
    yield {
        "took_s": round(took_s, 4),
        "device_s": round(found.device_s, 4),
        "copy_s": round(found.copy_s, 4),
        "busy_share": round(found.device_s / took_s, 3),
    }


def _gb_per_s(target: torch.Tensor, source: torch.Tensor) -> float:
    target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    clock = time.perf_counter()
    for _ in range(4):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    return round(4 * source.numel() / (time.perf_counter() - clock) / 1e9, 1)
