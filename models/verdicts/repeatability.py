"""How far a verdict is the same when a piece is imaged again: attribute agreement of the whole path, camera included."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from models.faults import VerdictError
from models.verdicts.exact_interval import Share, two_sided


class Repeatability(NamedTuple):
    """agreeing: pieces all of whose verdicts are the same, with an exact interval.  pairs: the chance that two imagings of a
    piece get the same verdict, mean over pieces.  fewest, most: imagings of a piece.  left_out: pieces imaged once, which
    say nothing."""

    agreeing: Share
    pairs: float
    fewest: int
    most: int
    left_out: int


def repeatability(flagged: ArrayLike, pieces: Sequence[object], level: float = 0.95) -> Repeatability:
    """Agreement of the verdicts of pieces that were imaged repeatedly.

    Assumes independent pieces, each taken out and put back between its imagings, as in production; imagings of one piece may
    depend on each other in any way. Guarantees the interval with probability `level`, for any true share of agreeing pieces.
    More imagings make agreement rarer, so figures compare only at the same number. Choose pieces near the threshold too:
    clear ones always agree.

    Args:
        flagged: the verdict of every imaging, (N,) bool.  pieces: of every imaging, (N,).
    Source: AIAG, Measurement Systems Analysis, 4th edition, attribute study (within appraiser); Clopper & Pearson 1934.

    >>> found = repeatability([True, True, False, True, False, False], pieces=["a", "a", "b", "b", "c", "c"])
    >>> print(found.agreeing, round(found.pairs, 3))
    2 of 3 (9.43 to 99.2 %) 0.667
    """
    verdicts = np.asarray(flagged)
    if verdicts.ndim != 1 or verdicts.dtype != bool or len(pieces) != len(verdicts):
        rule = "booleans, one for each entry of pieces"
        raise VerdictError(f"flagged must be {rule}; got {flagged!r}. Give the verdict and the piece of every imaging.")
    _, code = np.unique(np.asarray(pieces, dtype=str), return_inverse=True)
    imagings = np.bincount(code)
    hits = np.bincount(code, weights=verdicts).astype(np.int64)
    again = imagings > 1
    if not again.any():
        rule = "pieces that were imaged at least twice"
        raise VerdictError(f"pieces must be {rule}; got {len(imagings)} pieces imaged once. Image some of them again.")
    n, x = imagings[again], hits[again]
    same = x * (x - 1) + (n - x) * (n - x - 1)
    agreeing = two_sided(int(((x == 0) | (x == n)).sum()), len(n), level)
    return Repeatability(agreeing, float((same / (n * (n - 1))).mean()), int(n.min()), int(n.max()), int((~again).sum()))
