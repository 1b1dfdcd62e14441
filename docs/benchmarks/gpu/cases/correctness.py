"""Every detector in every precision: the graph, the lanes and the slots give the bits of a plain call."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from cases import bits
from cases.kernels import launched
from cases.place import Place
from cases.subjects import DETECTORS, changed, trained

from models import artifact
from pipeline.scoring.scorer import Scorer

__all__ = ["DETECTORS"]
BATCHES = {"cuda": 200, "cpu": 6}
SLOTS_SEEN = 5  # rotations of a batch


def run(detector: str, place: Place, _: int) -> Iterator[dict[str, Any]]:
    opened, pixels = trained(detector, place), place.tiles()
    on_cpu = Scorer(artifact.load(opened, "cpu"), "cpu", threads=1)(pixels).score
    for precision in place.precisions:
        model = artifact.load(changed(opened, precision=precision), place.device)
        scorer = Scorer(model, place.device, threads=2)
        size = scorer.batch_size
        plain = _plain(model, pixels, size, place.device)
        found = scorer(pixels)
        images = bits.each(found)
        (place.folder / f"{detector}-{precision}.bits").write_text(bits.of(found))
        rotated = all(
            bits.each(scorer(np.roll(pixels[:size], turn, axis=0))) == images[:size][-turn:] + images[: size - turn]
            for turn in range(1, SLOTS_SEEN)
        )
        alone = bits.each(scorer(pixels[:1])) == images[:1]
        checks = {
            "equals_plain": images == plain,
            "every_slot": rotated,
            "alone": alone,
            "lanes": _lanes(scorer, pixels, images, BATCHES[place.device]),
        }
        yield {
            "ok": all(checks.values()),
            "precision": precision,
            **checks,
            "graph": place.on_gpu and not scorer.one_by_one,
            "kernels": launched(partial(model.score, _on(pixels[:size], place.device))) if place.on_gpu else None,
            **bits.distance(found.score, on_cpu),
        }


def _on(pixels: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(pixels).to(device)


def _plain(model: Any, pixels: np.ndarray, size: int, device: str) -> list[bytes]:
    """What the detector gives batch by batch, without graph, lanes or streams."""
    with torch.inference_mode():
        parts = [model.score(_on(pixels[i : i + size], device)) for i in range(0, len(pixels), size)]
    score, cells, embedding = (torch.cat(x).cpu().numpy() for x in zip(*parts, strict=True))
    return [b"".join(x.tobytes() for x in image) for image in zip(score, cells, embedding, strict=True)]


def _lanes(scorer: Scorer, pixels: np.ndarray, images: list[bytes], batches: int) -> bool:
    """Batches of drawn images, handed in by two threads, give each image's own bits."""
    drawn = np.random.default_rng(0).integers(0, len(pixels), (batches, scorer.batch_size))
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda chosen: bits.each(scorer(pixels[chosen])) == [images[i] for i in chosen], drawn)
        return all(found)
