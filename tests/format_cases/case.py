"""One picture file of a known kind, and what a right reader makes of it."""

from typing import NamedTuple

import numpy as np

HEIGHT, WIDTH = 32, 48
UNSUPPORTED = "unsupported_format"


class Case(NamedTuple):
    """format, kind, layout, compression: what docs/formats.md says of the file.
    pixels: (H, W, 3) uint8 that a right reader gives; None where the product need not read it.
    within: levels by which the product may differ.  refused: words of the refusal; None where the file must be read.
    error: the reason code of the refusal.  white_level: the setting that the file is decoded with.
    """

    format: str
    kind: str
    layout: str
    compression: str
    content: bytes
    pixels: np.ndarray | None
    within: int = 0
    refused: str | None = None
    error: str = UNSUPPORTED
    white_level: int = 65535

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.format, self.kind, self.layout, self.compression) if part)


def samples(channels: int, depth: int, *, smooth: bool = False) -> np.ndarray:
    """(HEIGHT, WIDTH, channels) of `depth` bits, the same in every run; uint8 or uint16. Smooth: for lossy compression."""
    if smooth:
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        planes = np.stack([40 + 3 * x, 30 + 5 * y, 200 - 2 * x - y, 90 + x + y], -1)[..., :channels]
        return (planes * (257 if depth == 16 else 1)).astype(np.uint16 if depth > 8 else np.uint8)
    drawn = np.random.default_rng([channels, depth]).integers(0, 1 << depth, (HEIGHT, WIDTH, channels))
    return drawn.astype(np.uint16 if depth > 8 else np.uint8)


def shown(values: np.ndarray, depth: int, white_level: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 of grey or RGB samples: grey scaled so that white is 255, rounded half up; colour keeps its high byte."""
    if values.ndim == 2:
        values = values[..., None]
    wide = values.astype(np.int64)
    if values.shape[2] == 1:
        white = white_level or (1 << depth) - 1
        wide = (np.minimum(wide, white) * 255 + white // 2) // white
    elif depth > 8:
        wide = wide >> (depth - 8)
    return np.broadcast_to(wide, (*values.shape[:2], 3)).astype(np.uint8)


def over_black(pixels: np.ndarray, alpha: np.ndarray, depth: int) -> np.ndarray:
    """(H, W, 3) uint8 times alpha (H, W)."""
    share = alpha.astype(np.float64)[..., None] / ((1 << depth) - 1)
    return np.rint(pixels * share).astype(np.uint8)


def from_cmyk(values: np.ndarray, depth: int) -> np.ndarray:
    """(H, W, 3) uint8 of CMYK samples: the ink of a colour and black both take away."""
    ink = (values >> (depth - 8)).astype(np.float64)
    return np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)
