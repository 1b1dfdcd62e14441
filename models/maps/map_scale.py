"""The one colour scale of a model's heat maps: percentiles of the cells of good images' maps, counted in bounded memory."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOW_PERCENTILE, HIGH_PERCENTILE = 50.0, 99.9
BITS = 20
"""Of a float32 that tell bins apart: sign, exponent, and 11 of the mantissa. So a bin is at most 2^-11 of its values wide."""


class MapScale(NamedTuple):
    """Map values that get the first and the last colour, low <= high."""

    low: float
    high: float


class CellCounts:
    """A histogram of map cells over all float32 values: 8 MiB however many cells are counted, in whatever order.

    >>> counts = CellCounts()
    >>> counts.add(np.arange(1001, dtype=np.float32))
    >>> counts.total, counts.at(50.0), counts.at(99.9)
    (1001, 500.0, 999.0)
    """

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(1 << BITS, np.int64)

    @property
    def total(self) -> int:
        """Cells so far."""
        return int(self._counts.sum())

    def add(self, cells: ArrayLike) -> None:
        """Count the cells of a map of any shape, float32, finite."""
        values = np.asarray(cells, np.float32).ravel() + np.float32(0)  # (N,); -0.0 becomes 0.0
        bits = values.view(np.uint32)
        # Reversed below 0, these are integers in the order of the values.
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        np.add.at(self._counts, ordered >> (32 - BITS), 1)

    def at(self, percentile: float) -> float:
        """The ceil(percentile / 100 * total)-th lowest cell, rounded down to its bin: by at most 0.05 % of its size.

        Values that need no more than 11 bits, such as 0 and small integers, are exact. There must be a cell.
        """
        wanted = max(1, math.ceil(Fraction(str(percentile)) * self.total / 100))
        place = int(np.searchsorted(np.cumsum(self._counts), wanted))
        ordered = place << (32 - BITS)
        bits = ordered ^ (1 << 31) if ordered >> 31 else ~ordered & 0xFFFFFFFF
        return float(np.uint32(bits).view(np.float32))

    def scale(self) -> MapScale | None:
        """From the median to the 99.9th percentile; None without cells.

        >>> counts = CellCounts()
        >>> counts.scale() is None
        True
        >>> counts.add([[-4.0, -0.0], [0.0, 3.0]])
        >>> counts.scale()
        MapScale(low=0.0, high=3.0)
        """
        return MapScale(self.at(LOW_PERCENTILE), self.at(HIGH_PERCENTILE)) if self.total else None
