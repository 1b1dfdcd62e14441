"""Cuts an image of any size into overlapping tiles of the artifact's input size, and joins the tiles' results.

Tiles start at whole cells of the anomaly map, so that their maps lie on one grid and are never resampled. Where tiles
overlap, a window fades from one to the next; it is zero on each tile's rim, where the detector sees its own padding
instead of the picture. Everything is added in one fixed order in float64, which gives the same bits in every run. This file
uses only numpy, because processes without torch cut tiles too.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAP_CELLS = 256
"""The most cells along a stored map's longer side: 64 KiB per row of the maps table, 128 MiB per row group of it."""


def tile_origins(length: int, tile: int, overlap: int) -> NDArray[np.int64]:
    """First position of each tile, (T,), ascending. Neighbours share `overlap`; the last one ends flush and may share more.

    If the length is at most the tile's, there is one tile, which reaches beyond the end.

    >>> tile_origins(10, tile=4, overlap=1)
    array([0, 3, 6])
    """
    if length <= tile:
        return np.zeros(1, np.int64)
    step = tile - overlap
    count = -(-(length - tile) // step) + 1
    return np.minimum(np.arange(count, dtype=np.int64) * step, length - tile)


def tile_weights(origins: NDArray[np.int64], tile: int) -> NDArray[np.float64]:
    """Weight of each tile at each of its cells, (T, tile). The tiles' weights at a cell add up to 1.

    Between neighbours that share V cells it rises from 0 to 1 as a raised cosine over the middle V / 2. So the outer V / 4
    of a tile has no weight where the neighbour sees it further inside.

    >>> tile_weights(tile_origins(7, tile=4, overlap=1), tile=4)
    array([[1. , 1. , 1. , 0.5],
           [0.5, 1. , 1. , 1. ]])
    """
    centres = np.arange(tile) + 0.5
    weights = np.ones((len(origins), tile))
    for first, shared in enumerate((tile - np.diff(origins)).tolist()):
        if shared:
            rise = 0.5 - 0.5 * np.cos(np.pi * np.clip(2 * centres / shared - 0.5, 0, 1))
            weights[first] *= rise[::-1]
            weights[first + 1] *= rise
    total = np.zeros(int(origins[-1]) + tile)  # already 1 unless the flush last tile reaches the one two before it
    for origin, weight in zip(origins, weights, strict=True):
        total[origin : origin + tile] += weight
    return np.stack([w / total[origin : origin + tile] for origin, w in zip(origins, weights, strict=True)])


@dataclass(frozen=True)
class Tiling:
    """How a model's images are cut. tile: (height, width) of a tile, px. map_size: (rows, columns) of a tile's map.

    overlap: the least share of a tile that neighbours have in common, rounded up to whole cells.

    >>> grid = Tiling(tile=(64, 64), map_size=(16, 16)).grid((64, 150))
    >>> grid.origins.tolist(), grid.map_size
    ([[0, 0], [0, 48], [0, 88]], (16, 37))
    """

    tile: tuple[int, int]
    map_size: tuple[int, int]
    overlap: float = 0.25

    def __post_init__(self) -> None:
        for name, length, cells in zip(("height", "width"), self.tile, self.map_size, strict=True):
            if length % cells:
                raise ValueError(
                    f"map_{name} must divide the input's {name}, {length} px, if images are scored by tiles; got {cells}. "
                    f"Train with another image size, or another map_{name}."
                )

    def grid(self, size: tuple[int, int]) -> "TileGrid":
        """The tiles of an image of (height, width) px."""
        rows, columns = (
            Axis(length, tile, tile // cells, min(cells - 1, ceil(cells * self.overlap - 1e-9)), max(size))
            for length, tile, cells in zip(size, self.tile, self.map_size, strict=True)
        )
        return TileGrid(rows, columns)


@dataclass(frozen=True)
class Axis:
    """One direction of a tiled image; `length`, `tile`, `cell` in px, `overlap` in cells.

    longest: the image's longer side, px, which decides how many cells are stored.
    """

    length: int
    tile: int
    cell: int
    overlap: int
    longest: int

    @property
    def cells(self) -> int:
        """Cells of the detector that show the image; the last one may reach beyond it."""
        return -(-self.length // self.cell)

    @property
    def tile_cells(self) -> int:
        return self.tile // self.cell

    @cached_property
    def origins(self) -> NDArray[np.int64]:
        """First cell of each tile, (T,)."""
        return tile_origins(self.cells, self.tile_cells, self.overlap)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(T, tile_cells)."""
        return tile_weights(self.origins, self.tile_cells)

    @property
    def stored(self) -> int:
        """Cells of the stored map; they divide the image's length evenly and are never smaller than the detector's."""
        return max(1, min(self.length // self.cell, self.length * MAP_CELLS // self.longest))

    @cached_property
    def target(self) -> NDArray[np.int64]:
        """The stored cell in which each cell's centre lies, (cells,), ascending and without a gap."""
        centres = 2 * np.arange(self.cells, dtype=np.int64) + 1
        return np.minimum(centres * self.cell * self.stored // (2 * self.length), self.stored - 1)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one image, in row-major order."""

    rows: Axis
    columns: Axis

    @cached_property
    def origins(self) -> NDArray[np.int64]:
        """(top, left) of each tile, px, (T, 2)."""
        top, left = (axis.origins * axis.cell for axis in (self.rows, self.columns))
        return np.stack([np.repeat(top, len(left)), np.tile(left, len(top))], axis=1)  # (T, 2)

    @property
    def map_size(self) -> tuple[int, int]:
        """(rows, columns) of the stored map."""
        return self.rows.stored, self.columns.stored


class ImageScore(NamedTuple):
    """score: float32.  anomaly_map: (h, w) float32.  embedding: (32,) float16."""

    score: np.float32
    anomaly_map: NDArray[np.float32]
    embedding: NDArray[np.float16]


class Mosaic:
    """Blends the tiles' maps into the image's; it holds one row of tiles and the stored map, never the whole.

    A stored cell is the maximum of the blended cells whose centres lie in it, because a mean would dilute small defects.

    >>> mosaic = Mosaic(Tiling(tile=(4, 4), map_size=(2, 2)).grid((4, 6)))
    >>> mosaic.add(np.array([[[1.0, 2.0], [3.0, 4.0]], [[2.0, 5.0], [4.0, 6.0]]]))
    >>> mosaic.result()
    array([[1., 2., 5.],
           [3., 4., 6.]], dtype=float32)
    """

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        self._added = 0
        self._stored = np.full(grid.map_size, -np.inf)
        self._band = np.zeros((grid.rows.tile_cells, max(grid.columns.cells, grid.columns.tile_cells)))

    def add(self, maps: NDArray[np.floating]) -> None:
        """Add the next tiles in row-major order, (n, h, w)."""
        rows, columns = self._grid.rows, self._grid.columns
        for cells in maps:
            row, column = divmod(self._added, len(columns.origins))
            left = columns.origins[column]
            weights = rows.weights[row][:, None] * columns.weights[column]  # (h, w)
            self._band[:, left : left + columns.tile_cells] += weights * cells
            self._added += 1
            if column == len(columns.origins) - 1:
                self._settle(row)

    def result(self) -> NDArray[np.float32]:
        """(rows, columns) of the stored map, after the last tile."""
        assert self._added == len(self._grid.origins), (self._added, len(self._grid.origins))
        return self._stored.astype(np.float32)

    def _settle(self, row: int) -> None:
        """Store the cells that no later row of tiles reaches, and move down to the next row."""
        rows, columns = self._grid.rows, self._grid.columns
        top = int(rows.origins[row])
        end = int(rows.origins[row + 1]) if row + 1 < len(rows.origins) else rows.cells
        done = self._band[: end - top, : columns.cells]
        firsts = np.searchsorted(columns.target, np.arange(columns.stored))
        np.maximum.at(self._stored, rows.target[top:end], np.maximum.reduceat(done, firsts, axis=1))
        rest = self._band[end - top :]
        self._band = np.concatenate([rest, np.zeros((rows.tile_cells - len(rest), self._band.shape[1]))])  # (h, W)


class TileScores:
    """The results of an image's tiles, gathered in order.

    The score is the highest tile's: the detector's score of the worst piece of the size it was trained on. A mean over tiles
    would hide a small defect in a large image. Larger images therefore score higher, as the maximum of more draws does, and
    compare only with images of about the same size. The embedding is the mean of the tiles', each a mean of its cells.

    >>> scores = TileScores(Tiling(tile=(4, 4), map_size=(2, 2)).grid((4, 6)))
    >>> scores.add(np.float32([0.5, 2.0]), np.ones((2, 2, 2), np.float32), np.zeros((2, 32), np.float16))
    >>> float(scores.result().score), scores.result().anomaly_map.shape
    (2.0, (2, 3))
    """

    def __init__(self, grid: TileGrid) -> None:
        self._mosaic = Mosaic(grid)
        self._score = np.float32(-np.inf)
        self._embeddings = np.zeros(1)
        self._tiles = 0

    def add(self, scores: NDArray[np.float32], maps: NDArray[np.float32], embeddings: NDArray[np.float16]) -> None:
        """Add the next n tiles: (n,), (n, h, w), (n, 32). If a tile's score is NaN, so is the image's."""
        self._score = np.maximum(self._score, scores.max())
        self._mosaic.add(maps)
        for embedding in embeddings:
            self._embeddings = self._embeddings + embedding.astype(np.float64)
        self._tiles += len(scores)

    def result(self) -> ImageScore:
        """The image's results, after the last tile."""
        embedding = (self._embeddings / self._tiles).astype(np.float16)
        return ImageScore(np.float32(self._score), self._mosaic.result(), embedding)


def blend(maps: NDArray[np.floating], grid: TileGrid) -> NDArray[np.float32]:
    """The stored map of an image from all of its tiles' maps, (T, h, w).

    >>> grid = Tiling(tile=(4, 4), map_size=(2, 2)).grid((4, 6))
    >>> blend(np.ones((len(grid.origins), 2, 2)), grid).shape
    (2, 3)
    """
    mosaic = Mosaic(grid)
    mosaic.add(maps)
    return mosaic.result()
