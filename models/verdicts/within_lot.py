"""Within a lot: which pieces stand out if a share q of the flagged ones may be false (Benjamini-Hochberg), a second view."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from models.faults import VerdictError
from models.verdicts.ranks import piece_p
from models.verdicts.rates import check_pieces


def q_values(rank: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Benjamini-Hochberg adjusted p-values of a lot's pieces, (m,), for reading; `flagged_together` decides.

    Args:
        rank: of the lot's judged pieces among n calibration pieces, (m,).
    Assumes: lots are exchangeable with the calibration; conformal p-values of one calibration are PRDS.
    Guarantees: among pieces with q_value <= q, the share of good ones is at most q in expectation, on average over
        calibrations. It is no statement about one lot or one calibration.
    Source: Benjamini & Hochberg 1995; for conformal p-values Bates et al. 2023, arXiv:2104.08279 (they are PRDS).

    >>> q_values(np.array([1, 1, 50]), n=99).round(3).tolist()
    [0.015, 0.015, 0.5]
    """
    if len(rank) == 0:
        raise VerdictError("judged pieces must be 1 or more; got 0. A lot without a judged piece is not_judged.")
    from scipy.stats import false_discovery_control  # takes half a second to load, which verdicts save

    return np.asarray(false_discovery_control(piece_p(rank, n), method="bh"), np.float64)


def flagged_together(rank: NDArray[np.int64], q: Fraction, n: int) -> NDArray[np.bool_]:
    """Whether q_value <= q, (m,), in integers: up to the largest k with r_(k) m <= q (n + 1) k.

    Assumes, guarantees, source: as `q_values`.

    >>> flagged_together(np.array([1, 1, 50]), Fraction("0.015"), n=99)
    array([ True,  True, False])
    """
    check_pieces(n)
    ordered = np.sort(np.asarray(rank, np.int64))
    judged = len(ordered)
    # Python's integers: m, n and a denominator of many digits multiply to more than int64 holds.
    left = ordered.astype(object) * (judged * q.denominator)
    passing = np.flatnonzero(left <= np.arange(1, judged + 1).astype(object) * (q.numerator * (n + 1)))
    largest = ordered[passing[-1]] if len(passing) else 0
    return np.asarray(rank, np.int64) <= largest


def min_flaggable(judged: int, q: Fraction, n: int) -> int:
    """ceil(m / (q (n + 1))): fewer pieces than this can never be flagged together, however high they score.

    >>> min_flaggable(1000, Fraction("0.1"), n=399)
    25
    """
    check_pieces(n)
    return math.ceil(judged / (q * (n + 1)))


def pieces_enough(judged: int, q: Fraction, flaggable: int) -> int:
    """The smallest n with min_flaggable <= flaggable: good pieces that the calibration must have.

    >>> pieces_enough(1000, Fraction("0.1"), flaggable=25), pieces_enough(1000, Fraction("0.1"), flaggable=1)
    (399, 9999)
    """
    if flaggable < 1:
        raise VerdictError(f"flaggable must be 1 or more; got {flaggable}. Say how few pieces must be found together.")
    return max(1, math.ceil(judged / (q * flaggable)) - 1)
