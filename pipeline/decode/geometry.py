"""Where an image lies within the input of the model, and how it is cut into tiles."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from models.maps.regions import Placement, Side
from pipeline.decode.config import DecodeConfig


class Box(NamedTuple):
    """A part of the model's input, px; right and bottom are the first column and row outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def content_box(stored: tuple[int, int], config: DecodeConfig) -> Box:
    """The part of the model's input, and so of a map, that shows an image of `stored` (width, height) px: all of it, or the
    middle when the image is padded."""
    if config.resize != "pad":
        return Box(0, 0, config.width, config.height)
    scale = min(config.width / stored[0], config.height / stored[1])
    width, height = (max(1, round(side * scale)) for side in stored)
    width, height = min(width, config.width), min(height, config.height)
    left, top = (config.width - width) // 2, (config.height - height) // 2
    return Box(left, top, left + width, top + height)


def tiled_size(stored: tuple[int, int], config: DecodeConfig) -> tuple[int, int]:
    """(width, height) at which an image of `stored` (width, height) is cut into tiles."""
    width, height = (max(1, round(side * config.scale)) for side in stored)
    return width, height


def cut_tiles(pixels: np.ndarray, origins: Iterable[tuple[int, int]], size: tuple[int, int], into: np.ndarray) -> None:
    """Copy the tiles of (height, width) `size` at `origins` (top, left) to `into` (n, height, width, 3).

    Beyond its edge the image is mirrored: repeated edge pixels would be streaks that no training tile shows.
    """
    for index, (top, left) in enumerate(origins):
        tile = pixels[top : top + size[0], left : left + size[1]]
        beyond = [(0, size[0] - tile.shape[0]), (0, size[1] - tile.shape[1]), (0, 0)]
        into[index] = np.pad(tile, beyond, mode="symmetric") if tile.shape[:2] != size else tile


def placement(stored: tuple[int, int], config: DecodeConfig) -> Placement:
    """The part of the input that shows an image of `stored` (width, height) px: all of it, or what padding leaves."""
    box = content_box(stored, config)
    return Placement(Side(config.width, box.left, box.width, stored[0]), Side(config.height, box.top, box.height, stored[1]))
