"""Puts tiles of several images into one batch, so that an image of a few tiles leaves no slots empty.

A tile's slot follows from the place of its image in the unit and from its own number, and from nothing else. An image that
cannot be read, whose number of tiles nobody knows, so moves no other image's tiles to other slots, and neither do retries,
a resume or the number of decoders. Which batch a tile is in does depend on the images before it; its arithmetic does not.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.maps.tiling import ImageScore, Mosaic, TileGrid, TileScores
from pipeline.decode.tiles import TileBatch

OPEN_BATCHES = 4
"""Batches that wait to be filled. With one, a quarter of the slots is blank; a fifth gains nothing for most sizes of image."""

GOLDEN, TURN = 0x9E3779B1, 1 << 32  # multiples of the golden section of a turn spread evenly, however many there are


class PlacedTile(NamedTuple):
    """position: of its image in the unit.  number: in its image's grid."""

    position: int
    number: int
    grid: TileGrid


@dataclass(frozen=True)
class SlotBatch:
    """One batch. pixels: (B, H, W, 3) uint8, 0 in blank slots.  tiles: B, None in blank slots."""

    pixels: NDArray[np.uint8]
    tiles: list[PlacedTile | None]

    @property
    def used(self) -> list[int]:
        """The slots that hold a tile, ascending."""
        return [slot for slot, tile in enumerate(self.tiles) if tile is not None]

    def images(self) -> list[tuple[PlacedTile, list[int]]]:
        """For each image the first of its tiles here, and the slots of all of them in the order of its grid."""
        placed = sorted((tile.position, tile.number, slot) for slot, tile in enumerate(self.tiles) if tile is not None)
        slots = [[slot for *_, slot in group] for _, group in groupby(placed, key=lambda tile: tile[0])]
        return [(tile, mine) for mine in slots if (tile := self.tiles[mine[0]]) is not None]


class ImageResults:
    """What the tiles of one image give, as its batches are computed.

    explained: also join the tiles' explanations.
    """

    def __init__(self, grid: TileGrid, explained: bool) -> None:
        self._tiles, self._left = TileScores(grid), len(grid.origins)
        self._explained = Mosaic(grid) if explained else None
        self.any_explained = False

    def add(self, scores: NDArray[np.float32], maps: NDArray[np.float32], embeddings: NDArray[np.float16]) -> None:
        """The next n tiles: (n,), (n, h, w), (n, 32)."""
        self._tiles.add(scores, maps, embeddings)
        self._left -= len(scores)

    def explain(self, cells: NDArray[np.float32], any_explained: bool) -> None:
        """The explanations of the tiles just added, (n, h, w), 0 where a tile has none."""
        if self._explained is not None:
            self._explained.add(cells)
            self.any_explained |= any_explained

    def leave_unexplained(self) -> None:
        """The device could not explain some tile: the others would make it look as if it did not matter."""
        self._explained = None

    @property
    def complete(self) -> bool:
        return not self._left

    def result(self) -> ImageScore:
        return self._tiles.result()

    def explanation(self) -> NDArray[np.float32] | None:
        """(h, w) on the cells of the map; None when no tile has an explanation."""
        return self._explained.result() if self._explained is not None and self.any_explained else None


def first_slot(position: int, slots: int) -> int:
    """The slot of the first tile of the image at this position of its unit."""
    return (position * GOLDEN % TURN) * slots // TURN


def in_slots(batches: Iterable[TileBatch], slots: int) -> Iterator[SlotBatch]:
    """The tiles in batches of so many slots; those of one image stay in the order of its grid.

    A tile takes the first open batch whose slot is free, but none before that of the tile before it. When that would
    need more than OPEN_BATCHES, the oldest goes with blanks.

    Args:
        batches: all tiles of one image after those of another.
    """
    waiting: deque[SlotBatch] = deque()
    gone = 0
    for position, parts in groupby(batches, key=lambda batch: batch.position):
        first, number, at = first_slot(position, slots), 0, 0
        for _, grid, pixels in parts:
            for tile in pixels:
                slot, at = (first + number) % slots, max(at, gone)
                while at < gone + len(waiting) and waiting[at - gone].tiles[slot] is not None:
                    at += 1
                if at == gone + len(waiting):
                    if len(waiting) == OPEN_BATCHES:
                        gone += 1
                        yield waiting.popleft()
                    waiting.append(SlotBatch(np.zeros((slots, *tile.shape), np.uint8), [None] * slots))
                waiting[at - gone].pixels[slot] = tile
                waiting[at - gone].tiles[slot] = PlacedTile(position, number, grid)
                number += 1
                while waiting and None not in waiting[0].tiles:
                    gone += 1
                    yield waiting.popleft()
    yield from waiting
