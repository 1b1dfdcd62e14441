"""Finds what an image's score comes from: all of it, or the tile with the highest score."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import Detector
from pipeline.decode.geometry import cut_tiles
from pipeline.scoring.scorer import tiling


class Tile(NamedTuple):
    """pixels: (H, W, 3) uint8 of the model's input size.  left, top: where it starts, px."""

    pixels: NDArray[np.uint8]
    left: int
    top: int


class Tiles:
    """The tiles of decoded images; an image that is resized to the input is its own only tile."""

    def __init__(self, detector: Detector, device: str) -> None:
        self._detector, self._device = detector, device
        self._size = detector.config.input.height, detector.config.input.width
        self.tiling = tiling(detector.config)

    def worst(self, pixels: NDArray[np.uint8]) -> Tile:
        """The tile of an image (H, W, 3) uint8 with the highest score."""
        corners = self._corners(pixels)
        if len(corners) == 1:
            return self._tile(pixels, corners[0])
        return max((self._tile(pixels, corner) for corner in corners), key=self._score)

    def middle(self, pixels: NDArray[np.uint8]) -> Tile:
        """The tile in the middle of the list of an image's tiles."""
        corners = self._corners(pixels)
        return self._tile(pixels, corners[len(corners) // 2])

    def _corners(self, pixels: NDArray[np.uint8]) -> list[tuple[int, int]]:
        """(top, left) of every tile."""
        if self.tiling is None:
            return [(0, 0)]
        return [(int(top), int(left)) for top, left in self.tiling.grid((pixels.shape[0], pixels.shape[1])).origins]

    def _tile(self, pixels: NDArray[np.uint8], corner: tuple[int, int]) -> Tile:
        tile = np.empty((1, *self._size, 3), np.uint8)
        cut_tiles(pixels, [corner], self._size, tile)
        return Tile(tile[0], left=corner[1], top=corner[0])

    @torch.no_grad()
    def _score(self, tile: Tile) -> float:
        inputs = self._detector.prepare(torch.from_numpy(tile.pixels)[None].to(self._device))
        return float(self._detector.score_features(self._detector.features(inputs)).score)
