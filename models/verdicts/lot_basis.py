"""Lots differ too: a lot's share of flagged pieces is judged against the spread between known-good lots.

Three bases, by the number L of known-good lots in the calibration: `lots` (19 and more) compares ranks, `lots_model` (5 to 18)
takes lot effects as normal, `pieces` (fewer) does not cover the variation from lot to lot. Here the threshold is fixed on the
selection set, and so are the share and the spread: nothing of it looks at the calibration's lots.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from models.faults import VerdictError

LOTS = 19
LOTS_MODEL = 5
Basis = Literal["lots", "lots_model", "pieces"]
SAYS: dict[Basis, str] = {
    "lots": "compared with known-good lots, by rank",
    "lots_model": "compared with known-good lots, assuming that lot effects are normal",
    "pieces": "variation from lot to lot is not covered: fewer than 5 known-good lots",
}


class LotCounts(NamedTuple):
    """flagged: pieces of each lot above the threshold, (L,).  judged: pieces judged in each lot, (L,), 1 or more."""

    flagged: NDArray[np.int64]
    judged: NDArray[np.int64]


class LotSpread(NamedTuple):
    """share: pi, of pieces above the threshold.  variance: tau^2, between lots, of a lot's own share."""

    share: float
    variance: float


def basis_of(lots: int) -> Basis:
    """Which basis this many known-good lots allow; `SAYS` has each in words.

    >>> [basis_of(lots) for lots in (4, 5, 18, 19)]
    ['pieces', 'lots_model', 'lots_model', 'lots']
    """
    return "lots" if lots >= LOTS else "lots_model" if lots >= LOTS_MODEL else "pieces"


def lot_counts(flagged: ArrayLike, judged: ArrayLike) -> LotCounts:
    """Counts of lots, checked.

    >>> lot_counts([0, 3], [50, 60]).flagged
    array([0, 3])
    """
    counts = LotCounts(np.atleast_1d(np.asarray(flagged, np.int64)), np.atleast_1d(np.asarray(judged, np.int64)))
    wrong = (counts.judged < 1) | (counts.flagged < 0) | (counts.flagged > counts.judged)
    if counts.flagged.shape != counts.judged.shape or wrong.any():
        raise VerdictError(
            f"flagged must be from 0 to the judged pieces of each lot, 1 or more; got {flagged!r} and {judged!r}. "
            "Leave out lots without a judged piece."
        )
    return counts


def spread_between(selection: LotCounts) -> LotSpread:
    """pi and tau^2 of the lots of the selection set, by moments.

    pi = (sum c + 1/2) / (sum m + 1), never 0 or 1. tau^2 = max(0, (Q - (L - 1) pi (1 - pi)) / (M - sum m^2 / M)) with
    Q = sum m_l (c_l / m_l - pi)^2 and M = sum m; 0 from a single lot.
    Assumes: nothing that `lots_p` needs: any pi and tau^2 fixed beforehand keep its guarantee, good ones give it power.
    Source: Kleinman 1973, JASA 68(341) (moments of proportions with extraneous variance), weights m_l.

    >>> spread_between(lot_counts([0, 10, 5], [100, 100, 100])).variance > 0
    True
    """
    total = int(selection.judged.sum())
    share = (int(selection.flagged.sum()) + 0.5) / (total + 1)
    lots = len(selection.judged)
    scale = total - float(np.sum(selection.judged.astype(np.float64) ** 2)) / total
    if lots < 2:
        return LotSpread(share, 0.0)
    deviation = float(np.sum(selection.judged * (selection.flagged / selection.judged - share) ** 2))
    return LotSpread(share, max(0.0, (deviation - (lots - 1) * share * (1 - share)) / scale))


def lot_statistic(counts: LotCounts, spread: LotSpread) -> NDArray[np.float64]:
    """z_l = (c_l / m_l - pi) / sqrt(pi (1 - pi) / m_l + tau^2), (L,); a raw share would hold small lots more often.

    >>> lot_statistic(lot_counts([1, 20], [50, 1000]), LotSpread(0.01, 0.0)).round(2).tolist()
    [0.71, 3.18]
    """
    sd = np.sqrt(spread.share * (1 - spread.share) / counts.judged + spread.variance)
    return np.asarray((counts.flagged / counts.judged - spread.share) / sd, np.float64)


def lots_p(new: LotCounts, known_good: LotCounts, spread: LotSpread) -> NDArray[np.float64]:
    """(1 + #{z_l >= z}) / (L + 1) of new lots against L known-good lots, (number of new lots,).

    Assumes: good lots are exchangeable, their sizes included; pieces of a lot may be alike.
    Guarantees: P(p <= a) <= a for a good lot, marginally (on average over sets of known-good lots).
    Source: conformal p-value, Vovk, Gammerman & Shafer 2005, chapter 2, without smoothing, with the lot as the unit.

    >>> known = lot_counts(range(19), [100] * 19)
    >>> lots_p(lot_counts([30, 18], [100, 100]), known, LotSpread(0.09, 0.003)).tolist()
    [0.05, 0.1]
    """
    lots = len(known_good.judged)
    if lots < LOTS:
        raise VerdictError(f"known-good lots must be {LOTS} or more for ranks of lots; got {lots}. Take `lots_model_p`.")
    z = np.sort(lot_statistic(known_good, spread))
    reached = lots - np.searchsorted(z, lot_statistic(new, spread), side="left")
    return np.asarray((1 + reached) / (lots + 1), np.float64)


def lots_model_p(new: LotCounts, known_good: LotCounts) -> NDArray[np.float64]:
    """One-sided p of new lots against L known-good lots on the arcsine scale, (number of new lots,).

    y = asin sqrt((c + 3/8) / (m + 3/4)), v = 1 / (4 m + 2), tau^2 = max(0, var y - mean v), w = 1 / (tau^2 + v);
    p = P(t_{L-1} >= (y - mean_w y) / sqrt(tau^2 + v + 1 / sum w)).
    Assumes: lot effects are normal on this scale, pieces independent within a lot.
    Guarantees: approximate, on average over known-good lots, and for the level 0.05 only: with lots of 50 to 1,000 pieces
        whose means differ by 0.2 sd it holds 1 to 7 % of good lots, of those of 1,000 pieces up to 8 %; at 0.01 up to 2 %.
    Source: Anscombe 1948, Biometrika 35(3/4), for y and v; prediction interval of random effects, Higgins, Thompson &
        Spiegelhalter 2009, JRSS A 172(1), with L - 1 degrees of freedom.

    >>> lots_model_p(lot_counts([5, 30], [100, 100]), lot_counts([3, 5, 6, 4, 7], [100] * 5)).round(3).tolist()
    [0.486, 0.002]
    """
    lots = len(known_good.judged)
    if lots < LOTS_MODEL:
        raise VerdictError(f"known-good lots must be {LOTS_MODEL} or more for a model of lots; got {lots}. Take `lot_p`.")
    y, v = _arcsine(known_good)
    between = max(0.0, float(np.var(y, ddof=1) - v.mean()))
    weight = 1 / (between + v)
    centre = float(np.sum(weight * y) / weight.sum())
    new_y, new_v = _arcsine(new)
    return np.asarray(stdtr(lots - 1, (centre - new_y) / np.sqrt(between + new_v + 1 / weight.sum())), np.float64)


def _arcsine(counts: LotCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.arcsin(np.sqrt((counts.flagged + 0.375) / (counts.judged + 0.75))), 1 / (4.0 * counts.judged + 2)
