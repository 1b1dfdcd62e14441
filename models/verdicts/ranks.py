"""The rank of a new piece among the good pieces of a calibration, and the p-value and verdict that follow from it.

Everything is decided by integers: a float p-value is for reading.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError
from models.verdicts.rates import allowed_rank, check_pieces


def finite_scores(scores: ArrayLike, field: str = "scores") -> NDArray[np.float32]:
    """Scores as float32, (N,); scores that are equal in float32 are ties from here on.

    Raises:
        VerdictError: one is nan or infinite, also after the cast; or they are no single column.

    >>> finite_scores([0.5, 2])
    array([0.5, 2. ], dtype=float32)
    """
    with np.errstate(over="ignore"):
        cast = np.atleast_1d(np.asarray(scores, np.float64)).astype(np.float32)
    if cast.ndim != 1:
        raise VerdictError(f"{field} must be one column; got the shape {cast.shape}. Take one score for each piece or image.")
    bad = ~np.isfinite(cast)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise VerdictError(
            f"{field} must be finite; got {float(cast[first])!r} at {first}. Leave out images that have no score."
        )
    return cast


def sorted_calibration(scores: ArrayLike) -> NDArray[np.float32]:
    """The calibration as it is stored: the scores of n good pieces in rising order, (n,), float32.

    Raises:
        VerdictError: there is none, or one is not finite.

    >>> sorted_calibration([3, 1, 2])
    array([1., 2., 3.], dtype=float32)
    """
    cast = np.sort(finite_scores(scores, "calibration scores"))
    check_pieces(len(cast))
    return cast


def ranks(scores: ArrayLike, calibration: NDArray[np.float32]) -> NDArray[np.int64]:
    """1 + the number of calibration pieces that score at least as high, (N,); ties count against the new piece.

    Args:
        scores: of new pieces, (N,).
        calibration: as `sorted_calibration` returns it, (n,).

    >>> ranks([2, 9, 0], sorted_calibration([3, 1, 2]))
    array([3, 1, 4])
    """
    below = np.searchsorted(calibration, finite_scores(scores), side="left")
    return len(calibration) + 1 - below.astype(np.int64)


def piece_p(rank: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The conformal p-value rank / (n + 1), (N,), for reading; `flagged` decides.

    Assumes: the new piece and the n calibration pieces are exchangeable; ties may have any probability.
    Guarantees: P(p <= a) <= a for every a, marginally (on average over calibrations).
    Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, chapter 2, without smoothing;
        Bates, Candes, Lei, Romano & Sesia 2023, arXiv:2104.08279.

    >>> piece_p(np.array([1, 4]), n=3)
    array([0.25, 1.  ])
    """
    check_pieces(n)
    return np.asarray(rank, np.int64) / (n + 1)


def flagged(rank: NDArray[np.int64], rate: Fraction, n: int) -> NDArray[np.bool_]:
    """Whether rank <= floor(rate (n + 1)), (N,): the same as p <= rate in exact arithmetic.

    Assumes, guarantees: as `piece_p`, at the preset rate. For one calibration the false-alarm rate is at most
        Beta(j, n + 1 - j) distributed; `band.fixed_rate_bound` bounds it at 95 %.

    >>> flagged(np.array([29, 30]), Fraction("0.29"), n=99)
    array([ True, False])
    """
    return np.asarray(rank, np.int64) <= allowed_rank(rate, n)
