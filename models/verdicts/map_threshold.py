"""The map value above which a model sees a region, so that few good pieces have one."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError


def pieces_needed(share: float) -> int:
    """The fewest pieces from which a threshold of this share exists: the smallest n with share (n + 1) >= 1.

    >>> pieces_needed(0.05), pieces_needed(0.01)
    (19, 99)
    """
    return max(1, -(-1 // _fraction(share)) - 1)


def map_threshold(maxima: ArrayLike, pieces: Sequence[object], share: float) -> float | None:
    """The floor(share (n + 1))-th largest of the largest map values of n held-out good pieces.

    Assumes that the pieces are exchangeable with a new one: good pieces that the fit did not see, maps of the same grid and
    quantisation. Guarantees that a new good piece has a cell above (greater than) the threshold with probability at most
    `share`, on average over held-out sets; ties only lower it. It says nothing of one held-out set in particular.

    Args:
        maxima: the largest map value of every image, in the part that shows it, (N,), finite; compared as float32.
        pieces: the piece of every image, (N,). A piece's value is the largest of its images, so each piece counts once.
        share: of good pieces, above 0 and below 1; read as the decimal number that it prints as, since 0.29 x 100 is below
            29 in floats.
    Returns:
        one of the maxima, a float32 value; None if the pieces are too few (rank 0, see `pieces_needed`).
    Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, section 2.2 (rank of a new example).

    >>> map_threshold(range(1, 41), pieces=range(40), share=0.05)  # rank 2 of 40 pieces
    39.0
    >>> map_threshold(range(1, 41), pieces=[i // 20 for i in range(40)], share=0.05) is None  # two pieces are too few
    True
    """
    values: NDArray[np.float32] = np.asarray(maxima, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all() or len(pieces) != len(values):
        rule = "finite numbers, one for each entry of pieces"
        raise VerdictError(f"maxima must be {rule}; got {maxima!r}. Give the largest map value and the piece of every image.")
    wanted = _fraction(share)
    _, code = np.unique(np.asarray([str(piece) for piece in pieces]), return_inverse=True)
    count = int(code.max()) + 1 if len(code) else 0
    largest = np.full(count, -np.inf, np.float32)
    np.maximum.at(largest, code, values)
    rank = wanted * (count + 1) // 1
    return float(np.sort(largest)[count - rank]) if rank else None


def _fraction(share: float) -> Fraction:
    if not 0 < share < 1:
        raise VerdictError(f"share must be above 0 and below 1; got {share!r}. Give the share of good pieces with a region.")
    return Fraction(str(share))
