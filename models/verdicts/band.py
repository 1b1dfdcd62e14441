"""A bound of the false-alarm rate at every threshold at once, for thresholds that somebody picks after looking."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from models.faults import VerdictError
from models.verdicts.rates import MISS, allowed_rank, check_pieces

CONFIDENCE = float(1 - MISS)
DEEPEST_NODE = Fraction(1, 5)  # of n; beyond it nobody sets a threshold
STEP = Fraction(3, 2)
LOTS_COVERED = 20
NEGLIGIBLE = 1e-15  # probability of a state that is dropped; a hundred nodes of them change no figure that is shown
HALVINGS = 40


class Band(NamedTuple):
    """Bounds that hold together with probability 0.95.

    pieces: n of the calibration.
    nodes: ranks j_1 < j_2 < ..., (K,), int64.
    bounds: of the false-alarm rate of a threshold just above the j-th largest calibration score, (K,), rising.
    eta: the error probability of each bound alone, from 0.05 / K to 0.05.
    """

    pieces: int
    nodes: NDArray[np.int64]
    bounds: NDArray[np.float64]
    eta: float


def fixed_rate_bound(rank: int, n: int) -> float:
    """BetaInv(0.95; j, n + 1 - j): the bound of the false-alarm rate of "rank <= j", for j fixed beforehand.

    Assumes: n independent pieces from one distribution, which need not be continuous; rank j from 1 to n.
    Guarantees: holds for at least 95 % of calibrations (conditional on the calibration, at this one rank).
    Source: Vovk 2012, Conditional validity of inductive conformal predictors, arXiv:1209.2673, proposition 2b.

    >>> round(fixed_rate_bound(4, n=400), 4)
    0.0193
    """
    check_rank(rank, n)
    return float(betaincinv(rank, n + 1 - rank, CONFIDENCE))


def band(n: int, rates: Iterable[Fraction] = ()) -> Band:
    """The simultaneous band of n calibration pieces, with nodes at 1, 2, 3, 5, 8 ... up to n / 5 and at every preset rate.

    b_j = BetaInv(1 - eta; j, n + 1 - j), and eta so that P(U_(j) <= b_j at all nodes) = 0.95 for uniform order statistics.
    Assumes: n independent pieces from one distribution, which need not be continuous.
    Guarantees: for at least 95 % of calibrations the bounds of all thresholds hold at once (conditional on the calibration).
    Source: the generic simultaneous calibration of Bates, Candes, Lei, Romano & Sesia 2023, arXiv:2104.08279,
        with bounds of equal level at nodes; crossing probability by forward recursion, Noe 1972, Ann. Math. Stat. 43(1).

    >>> found = band(400)
    >>> found.nodes.tolist(), round(bound_of_count(found, 0), 3), round(bound_of_count(found, 4), 3)
    ([1, 2, 3, 5, 8, 12, 18, 27, 41, 62, 80], 0.012, 0.029)
    """
    check_pieces(n)
    nodes = _nodes(n, rates)
    low, high = float(MISS) / len(nodes), float(MISS)  # Bonferroni's is too small, a single bound's too large or right
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if coverage(n, nodes, _bounds(n, nodes, middle)) >= CONFIDENCE else (low, middle)
    return Band(n, nodes, _bounds(n, nodes, low), low)


def bound_at(found: Band, calibration: NDArray[np.float32], threshold: float) -> float:
    """The bound of P(score of a good piece >= threshold), 1 if the threshold is below the last node.

    Args:
        calibration: the sorted scores that the band is of, (n,).
        threshold: may be chosen after looking at any scores.
    Assumes, guarantees: as `band`.

    >>> bound_at(band(59), np.arange(59, dtype=np.float32), threshold=1)
    1.0
    """
    if len(calibration) != found.pieces or not math.isfinite(threshold):
        raise VerdictError(
            f"threshold must be finite and for a calibration of {found.pieces} pieces; got {threshold!r} and "
            f"{len(calibration)} pieces. Build the band of this calibration."
        )
    # The float32 score that a new piece has is compared with the threshold as it is, so calibration scores are too.
    reached = len(calibration) - int(np.searchsorted(calibration.astype(np.float64), threshold, side="left"))
    return bound_of_count(found, reached)


def bound_of_count(found: Band, reached: int) -> float:
    """The bound of the false-alarm rate of a threshold that k calibration pieces reach: at the first node >= k + 1, else 1.

    >>> bound_of_count(band(59), reached=59)
    1.0
    """
    place = int(np.searchsorted(found.nodes, reached + 1))
    return float(found.bounds[place]) if place < len(found.nodes) else 1.0


def covers_lots(lots: int) -> bool:
    """Whether a calibration from this many lots may speak for new lots; below 20 a report says "does not cover lots".

    A band counts pieces as independent. Lots that differ break that, and with few of them it held in 70 to 85 % only.

    >>> covers_lots(19), covers_lots(20)
    (False, True)
    """
    return lots >= LOTS_COVERED


def coverage(n: int, nodes: NDArray[np.int64], bounds: NDArray[np.float64]) -> float:
    """P(U_(j) <= b_j at all nodes) for the order statistics of n uniforms, to about 1e-12.

    N = #{U <= b} moves from node to node, and states N < j are dropped. N is that of a Poisson process of rate n, divided at
    the end by the probability that it has n points: its increments do not depend on N, so a step is a convolution and only
    states that carry probability are kept. It is the same probability as with binomial increments.

    Source: Moscovich & Nadler 2017, Fast calculation of boundary crossing probabilities for Poisson processes,
        arXiv:1503.04363; Noe 1972.

    >>> round(coverage(3, np.array([1]), np.array([0.5])), 12)  # 1 - 0.5^3
    0.875
    """
    from scipy.stats import poisson  # takes half a second to load, which verdicts save

    states, least, before = np.ones(1), 0, 0.0
    for node, bound in zip(nodes.tolist(), bounds.tolist(), strict=True):
        mean = n * (bound - before)
        first, last = int(poisson.ppf(NEGLIGIBLE, mean)), int(poisson.isf(NEGLIGIBLE, mean))
        states = np.convolve(states, poisson.pmf(np.arange(first, last + 1), mean))
        least += first
        dropped = max(0, node - least)
        states, least = states[dropped:], least + dropped
        kept = np.flatnonzero(states > NEGLIGIBLE)
        if len(kept) == 0:
            return 0.0
        states, least = states[kept[0] : kept[-1] + 1], least + int(kept[0])
        before = bound
    rest = n - (least + np.arange(len(states)))
    return float(np.sum(states * poisson.pmf(rest, n * (1 - before))) / poisson.pmf(n, n))


def check_rank(rank: int, n: int) -> None:
    """Refuses a rank that n calibration pieces do not have.

    >>> check_rank(1, n=1)  # raises nothing
    """
    check_pieces(n)
    if not 1 <= rank <= n:
        raise VerdictError(
            f"rank must be from 1 to {n}, the calibration's pieces; got {rank}. Take a larger rate or more pieces."
        )


def _nodes(n: int, rates: Iterable[Fraction]) -> NDArray[np.int64]:
    deepest = max(1, math.floor(DEEPEST_NODE * n))
    nodes, node = {deepest}, 1
    while node < deepest:
        nodes.add(node)
        node = math.ceil(node * STEP)
    nodes |= {rank for rate in rates if 1 <= (rank := allowed_rank(rate, n)) <= n}
    return np.array(sorted(nodes), np.int64)


def _bounds(n: int, nodes: NDArray[np.int64], eta: float) -> NDArray[np.float64]:
    return np.asarray(betaincinv(nodes, n + 1 - nodes, 1 - eta), np.float64)
