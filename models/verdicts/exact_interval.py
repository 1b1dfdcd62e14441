"""Exact intervals and bounds of a share: so many of so many pieces.

They hold for independent pieces whatever the true share is; images of one piece are not independent, so pieces are counted.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from models.faults import VerdictError


class Share(NamedTuple):
    """counted of total, and the ends of an interval of the true share. Without pieces the interval is 0 to 1."""

    counted: int
    total: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.counted} of {self.total} ({100 * self.low:.3g} to {100 * self.high:.3g} %)"


def at_least(count: ArrayLike, total: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """The exact lower bound of a share, BetaInv(1 - level; count, total - count + 1), and 0 where nothing was counted.

    Assumes independent pieces. Guarantees P(bound <= true share) >= level for every true share: it is conditional on nothing,
    and not an average over shares.

    Args:
        count, total: integers, arrays of one shape or scalars.
    Returns:
        float64 of that shape.
    Source: Clopper & Pearson 1934, Biometrika 26:404.

    >>> bool(at_least(29, 29) > 0.90), bool(at_least(28, 28) > 0.90)
    (True, False)
    """
    k, n, p = _checked(count, total, level)
    with np.errstate(invalid="ignore"):
        bound = betaincinv(np.maximum(k, 1), n - k + 1, 1 - p)
    return np.where(k == 0, 0.0, bound)


def at_most(count: ArrayLike, total: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """The exact upper bound of a share, BetaInv(level; count + 1, total - count), and 1 where everything was counted.

    Assumes and guarantees what `at_least` does, on the other side.
    Source: Clopper & Pearson 1934, Biometrika 26:404.

    >>> print(round(float(at_most(0, 300)), 4))  # none of 300: at most 1 %
    0.0099
    """
    k, n, p = _checked(count, total, level)
    return 1 - at_least(n - k, n, p)


def two_sided(count: int, total: int, level: float = 0.95) -> Share:
    """The share with its exact interval; each end errs with at most (1 - level) / 2.

    Source: Clopper & Pearson 1934, Biometrika 26:404.

    >>> print(two_sided(2, 40))
    2 of 40 (0.611 to 16.9 %)
    """
    each = (1 + level) / 2
    return Share(count, total, float(at_least(count, total, each)), float(at_most(count, total, each)))


def _checked(count: ArrayLike, total: ArrayLike, level: float) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    k, n = np.broadcast_arrays(np.asarray(count), np.asarray(total))
    if k.dtype.kind not in "iu" or n.dtype.kind not in "iu" or (k < 0).any() or (k > n).any():
        rule = "a whole number from 0 to total"
        raise VerdictError(f"count must be {rule}; got {count!r} of {total!r}. Count pieces, each once.")
    if not 0 < level < 1:
        raise VerdictError(f"level must be above 0 and below 1; got {level!r}. 0.95 is usual.")
    return k.astype(np.int64), n.astype(np.int64), level
