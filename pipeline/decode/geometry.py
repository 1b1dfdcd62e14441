"""Where an image lies within the input of the model, and how it is cut into tiles."""

from collections.abc import Iterable

import numpy as np

from models.maps.content_box import content_box
from models.maps.regions import Placement, Side
from pipeline.decode.config import DecodeConfig


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
