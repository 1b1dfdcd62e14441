"""JPEGs decoded on the device beside one core, and how far their pixels are apart."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg
import torch
import torchvision
from cases.place import Place

WIDTH, HEIGHT, QUALITY = 1600, 1200, 90
COUNT = 64
TURNS = 4


def run(place: Place, _: int) -> Iterator[dict[str, Any]]:
    tiles = place.tiles()
    across, down = WIDTH // tiles.shape[2] + 1, HEIGHT // tiles.shape[1] + 1
    files = []
    for tile in tiles[:COUNT]:
        picture = np.ascontiguousarray(np.tile(tile, (down, across, 1))[:HEIGHT, :WIDTH])
        files.append(simplejpeg.encode_jpeg(picture, quality=QUALITY, colorsubsamp="420"))
    encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    on_gpu = torchvision.io.decode_jpeg(encoded, mode=torchvision.io.ImageReadMode.RGB, device="cuda")
    on_cpu = simplejpeg.decode_jpeg(files[0])
    apart = np.abs(on_gpu[0].permute(1, 2, 0).cpu().numpy().astype(int) - on_cpu)
    torch.cuda.synchronize()
    clock = time.perf_counter()
    for _ in range(TURNS):
        torchvision.io.decode_jpeg(encoded, mode=torchvision.io.ImageReadMode.RGB, device="cuda")
    torch.cuda.synchronize()
    gpu_s = (time.perf_counter() - clock) / TURNS
    clock = time.perf_counter()
    for file in files:
        simplejpeg.decode_jpeg(file)
    yield {
        "ok": bool(apart.mean() < 2),
        "size": f"{WIDTH}x{HEIGHT}",
        "gpu_per_s": round(COUNT / gpu_s, 1),
        "core_per_s": round(COUNT / (time.perf_counter() - clock), 1),
        "grey_levels_apart": {"mean": round(float(apart.mean()), 3), "largest": int(apart.max())},
    }
