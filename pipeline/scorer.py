"""Scores the pixels of one unit, in fixed batch slots, in whatever process owns the device."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models import artifact


@dataclass(frozen=True)
class UnitScores:
    """What the detector says of a unit's N images, in unit order; rows of images without pixels are undefined.

    score: (N,) float32.  anomaly_map: (N, h, w) float32.  embedding: (N, 32) float16.
    """

    score: np.ndarray
    anomaly_map: np.ndarray
    embedding: np.ndarray


class Scorer:
    """A loaded model on its device.

    Every batch has the artifact's batch size: a bad image leaves its slot blank and the last batch is filled up with
    blanks, so that an image's arithmetic depends on its slot only, never on what else could be read.
    """

    def __init__(self, directory: Path, device: str = "auto", threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = resolve_device(device)
        opened = artifact.read(directory)
        self.batch_size = opened.config.batch_size
        self.map_threshold = opened.config.map_threshold
        self.label = f"{self.device.split(':')[0]}-{opened.config.precision}"
        self._detector = artifact.load(opened, self.device)

    def __call__(self, pixels: np.ndarray) -> UnitScores:
        """Args:
        pixels: (N, H, W, 3) uint8, N > 0; zeros where an image has no pixels.
        """
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), self.batch_size):
                batch = pixels[start : start + self.batch_size]
                slots = np.zeros((self.batch_size, *pixels.shape[1:]), np.uint8)
                slots[: len(batch)] = batch
                scored = self._detector.score(torch.from_numpy(slots).to(self.device))
                parts.append([part[: len(batch)].cpu().numpy() for part in scored])
        score, anomaly_map, embedding = (np.concatenate(column) for column in zip(*parts, strict=True))
        return UnitScores(score, anomaly_map, embedding)

    def finite(self, scores: UnitScores) -> np.ndarray:
        """(N,) bool: score and whole map are finite numbers."""
        return np.isfinite(scores.score) & np.isfinite(scores.anomaly_map).all(axis=(1, 2))


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def default_threads(cpus: int) -> int:
    """Arithmetic threads of one scoring process on a machine of so many cores: all of them, up to 16."""
    return max(1, min(16, math.floor(cpus)))
