"""The lot itself: are more of its pieces flagged than false calls alone explain, and is it like the calibration at all?

Everywhere j is the preset rank, n the calibration's pieces, m the pieces judged in a lot, c those of them that are flagged.
A rate that was chosen by looking at data (a review budget) does not make a preset j.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, betaln, gammaln, ndtr

from models.faults import VerdictError
from models.verdicts.band import check_rank, fixed_rate_bound
from models.verdicts.ranks import finite_scores, ranks
from models.verdicts.rates import MISS

EXACT = 8
"""With so few pieces on a side, and without ties, the Mann-Whitney test counts all orders (as scipy does)."""


class FalseHolds(NamedTuple):
    """Good lots expected to be held: on_average over calibrations, and at_most for 95 % of calibrations."""

    on_average: float
    at_most: float


def count_flagged(scores: ArrayLike, calibration: NDArray[np.float32], rank: int) -> int:
    """c: the lot's pieces strictly above the j-th largest calibration score, which is the same as rank <= j.

    Args:
        scores: of the lot's judged pieces, (m,).
        calibration: sorted, (n,), float32.

    >>> count_flagged([3, 4, 5], np.array([1, 2, 3], np.float32), rank=1)
    2
    """
    check_rank(rank, len(calibration))
    return int((ranks(scores, calibration) <= rank).sum())


def lot_p(flagged: int, judged: int, rank: int, n: int) -> float:
    """P(B >= c) for B ~ BetaBinomial(m, j, n + 1 - j), the number of good pieces flagged in a good lot.

    Assumes: the lot's pieces and the calibration's are exchangeable (lots do not differ); ties make it conservative.
    Guarantees: P(lot_p <= a) <= a for a good lot, marginally: on average over calibrations, not for each of them.
    Source: Marques 2025, Universal distribution of the empirical coverage in split conformal prediction, arXiv:2303.02770;
        the order statistics' predictive distribution is Wilks 1942, Ann. Math. Stat. 13(4).

    >>> round(lot_p(1, judged=1, rank=1, n=99), 4), round(lot_p(25, judged=1000, rank=4, n=400), 4)
    (0.01, 0.0219)
    """
    _check_lot(flagged, judged, rank, n)
    return float(_at_least(judged, rank, n)[flagged])


def hold_limit(judged: int, rank: int, n: int, level: Fraction = MISS) -> int:
    """c95: the smallest c with P(Bin(m, u) >= c) <= level, u = BetaInv(0.95; j, n + 1 - j); m + 1 if no count will do.

    Args:
        level: share of good lots that may be held, 0.05; less where a lot has several chances to be held.
    Assumes: the lot's pieces and the calibration's are independent, from one distribution.
    Guarantees: for at least 95 % of calibrations at most the level of good lots is held (conditional on the calibration).
    Source: Vovk 2012, arXiv:1209.2673, proposition 2b, for u; a tolerance limit for the count given u.

    >>> hold_limit(1000, rank=4, n=400), hold_limit(1, rank=4, n=40)
    (28, 2)
    """
    _check_lot(0, judged, rank, n)
    bound, low, high = fixed_rate_bound(rank, n), 1, judged + 1
    while low < high:  # the probability falls with the count, and is 0 at m + 1
        count = (low + high) // 2
        if bdtrc(count - 1, judged, bound) <= level:
            high = count
        else:
            low = count + 1
    return low


def defects_at_least(flagged: int, judged: int, rank: int, n: int) -> int:
    """The smallest d with P(BetaBinomial(m - d, j, n + 1 - j) >= c - d) > 0.05: pieces of the lot unlike calibration.

    Assumes: the lot's good pieces and the calibration's are exchangeable; defective pieces may score anything.
    Guarantees: exceeds the number of defective pieces with probability at most 0.05, marginally.
    Source: the lot test inverted over the number of defects, as for conformal bounds on the number of outliers,
        Magnani, Sesia & Solari 2023, arXiv:2308.05534.

    >>> defects_at_least(30, judged=1000, rank=4, n=400), defects_at_least(10, judged=1000, rank=4, n=400)
    (9, 0)
    """
    _check_lot(flagged, judged, rank, n)
    if float(_at_least(judged, rank, n)[flagged]) > MISS:
        return 0
    low, high = 1, flagged  # the probability rises with d, and is 1 at d = c
    while low < high:
        d = (low + high) // 2
        if float(_at_least(judged - d, rank, n)[flagged - d]) > MISS:
            high = d
        else:
            low = d + 1
    return low


def expected_false_holds(judged: Sequence[int], rank: int, n: int) -> FalseHolds:
    """How many of these lots, if all are good, the hold limit will hold.

    Args:
        judged: pieces judged in each lot, say of a month.
    Assumes: as `hold_limit`.
    Guarantees: on_average is exact for scores without ties; at_most bounds the expectation for at least 95 % of calibrations.

    >>> found = expected_false_holds([1000] * 40, rank=4, n=400)
    >>> round(found.on_average, 2), round(found.at_most, 2)
    (0.42, 1.39)
    """
    sizes, lots = np.unique(np.asarray(judged, np.int64), return_counts=True)
    worst = fixed_rate_bound(rank, n)
    average, most = 0.0, 0.0
    for size, count in zip(sizes.tolist(), lots.tolist(), strict=True):
        limit = hold_limit(size, rank, n)
        average += count * float(_at_least(size, rank, n)[limit])
        most += count * float(bdtrc(limit - 1, size, worst))
    return FalseHolds(average, most)


def shift_p(scores: ArrayLike, calibration: NDArray[np.float32]) -> float:
    """Two-sided Mann-Whitney p of the lot's scores against the calibration's: a different lot, not a few bad pieces.

    Args:
        scores: (m,).
        calibration: (n,), float32.
    Assumes: as `lot_p`. Exact up to 8 pieces on a side without ties, else normal with a correction for ties.
    Guarantees: P(shift_p <= a) about a for a good lot, marginally. It is an alarm of its own, never combined with `lot_p`.
    Source: Mann & Whitney 1947, Ann. Math. Stat. 18(1).

    >>> calibration = np.arange(100, dtype=np.float32)
    >>> shift_p(calibration[::5], calibration) > 0.5, shift_p(calibration[::5] + 40, calibration) < 1e-4
    (True, True)
    """
    lot = finite_scores(scores)
    _check_lot(0, len(lot), 1, len(calibration))
    if lot.min() == lot.max() == calibration[0] == calibration[-1]:
        return 1.0  # all tied: the statistic has no variance
    from scipy.stats import mannwhitneyu  # takes half a second to load, which verdicts save

    both = lot.astype(np.float64), calibration.astype(np.float64)  # scipy counts in the type of the scores
    return float(mannwhitneyu(*both, alternative="two-sided").pvalue)


class LotRanks(NamedTuple):
    """The pieces of a lot by where they lie among the calibration's, each column (E,), no two rows equal.

    below, tied: calibration pieces that score lower, and the same.  pieces: of the lot that lie there.
    """

    below: NDArray[np.int64]
    tied: NDArray[np.int64]
    pieces: NDArray[np.int64]


def shift_p_of_ranks(lot: LotRanks, calibration: NDArray[np.float32]) -> float:
    """`shift_p` of a lot of which only the ranks are known; pieces between two calibration scores count as no ties.

    Args:
        calibration: sorted, (n,), float32.
    Assumes, guarantees, source: as `shift_p`.

    >>> calibration = np.arange(100, dtype=np.float32)
    >>> there = LotRanks(np.arange(40, 100, 3), np.ones(20, np.int64), np.ones(20, np.int64))
    >>> np.isclose(shift_p_of_ranks(there, calibration), shift_p(np.arange(40, 100, 3), calibration))
    np.True_
    """
    m, n = int(lot.pieces.sum()), len(calibration)
    _check_lot(0, m, 1, n)
    of_calibration = np.unique(calibration, return_counts=True)[1].astype(np.float64)
    ties = float(np.sum(of_calibration**3 - of_calibration))
    at = lot.tied > 0
    both, alone = (lot.tied + lot.pieces)[at].astype(np.float64), lot.tied[at].astype(np.float64)
    ties += float(np.sum((both**3 - both) - (alone**3 - alone)))
    if min(m, n) <= EXACT and not ties:
        return shift_p(_positions(lot), np.arange(n, dtype=np.float32))
    pairs = float(np.sum(lot.pieces * (lot.below + lot.tied / 2)))
    variance = m * n / 12 * (m + n + 1 - ties / ((m + n) * (m + n - 1)))
    if variance <= 0:
        return 1.0  # all tied
    z = (max(pairs, m * n - pairs) - m * n / 2 - 0.5) / math.sqrt(variance)
    return min(1.0, 2 * float(ndtr(-z)))


def _positions(lot: LotRanks) -> NDArray[np.float64]:
    """Numbers that lie among 0, 1, ... n - 1 as the lot's pieces lie among the calibration's, without ties; (m,)."""
    within = np.arange(int(lot.pieces.sum())) - np.repeat(np.cumsum(lot.pieces) - lot.pieces, lot.pieces)
    return np.asarray(np.repeat(lot.below, lot.pieces) - 1 + (within + 1) / (np.repeat(lot.pieces, lot.pieces) + 1), np.float64)


def _check_lot(flagged: int, judged: int, rank: int, n: int) -> None:
    check_rank(rank, n)
    if judged < 1:
        raise VerdictError(f"judged pieces must be 1 or more; got {judged}. A lot without a judged piece is not_judged.")
    if not 0 <= flagged <= judged:
        raise VerdictError(f"flagged pieces must be from 0 to {judged}, those judged; got {flagged}. Count judged pieces only.")


@functools.lru_cache(maxsize=256)  # lots are often of one size
def _at_least(judged: int, rank: int, n: int) -> NDArray[np.float64]:
    """P(B >= c) for c = 0 ... m + 1, (m + 2,): summed from the far end, so small tails keep their digits."""
    c = np.arange(judged + 1)
    choose = gammaln(judged + 1) - gammaln(c + 1) - gammaln(judged - c + 1)
    mass = np.exp(choose + betaln(c + rank, judged - c + n + 1 - rank) - betaln(rank, n + 1 - rank))
    tail = np.cumsum(mass[::-1])[::-1]
    return np.append(np.minimum(tail / tail[0], 1.0), 0.0)
