"""Where the cases run: the device, a folder for what they hand on, and the pictures."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

TILES = "tiles.npz"
GOOD = 40
SIDE_PX = {"cuda": 256, "cpu": 64}  # of the small models; a CPU only shows that the script works


@dataclass(frozen=True)
class Place:
    """device: cuda or cpu. folder: shared by all cases, deleted at the end."""

    device: str
    folder: Path

    @property
    def side_px(self) -> int:
        return SIDE_PX[self.device]

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def precisions(self) -> tuple[str, ...]:
        """bf16 on a CPU needs no proof here; fp16 is emulated there."""
        return ("float32", "fp16", "bf16") if self.on_gpu else ("float32", "fp16")

    @property
    def good(self) -> int:
        """How many tiles are good; they come first."""
        return GOOD if self.on_gpu else GOOD // 4

    def tiles(self) -> np.ndarray:
        """Magnetic tiles, (64, side, side, 3) uint8; every fourth of them on a CPU."""
        return _tiles(self.side_px)[:: 1 if self.on_gpu else 4]


@cache
def _tiles(side_px: int) -> np.ndarray:
    with np.load(Path(os.environ["FLOWSCORE_ASSETS"]) / TILES) as held:
        pixels = held["pixels"]
    step = pixels.shape[1] // side_px
    return np.ascontiguousarray(pixels[:, ::step, ::step])
