"""Lots that differ: ranks of lots and the model of lots keep their level where a test by pieces does not."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm, t

from models.faults import VerdictError
from models.verdicts.lot_basis import (
    SAYS,
    LotCounts,
    LotSpread,
    basis_of,
    lot_counts,
    lot_statistic,
    lots_model_p,
    lots_p,
    spread_between,
)
from models.verdicts.lot_test import lot_p

SD = 0.2  # of the lots' means, in standard deviations of a lot's pieces


def drawn(rng: np.random.Generator, lots: int, threshold: float) -> LotCounts:
    """Lots of 50 to 1,000 pieces whose means differ: counts above a threshold."""
    judged = rng.integers(50, 1001, lots)
    return LotCounts(rng.binomial(judged, norm.sf(threshold - SD * rng.standard_normal(lots))), judged)


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_levels_with_lots_that_differ(rate: float) -> None:
    rng, runs, threshold = np.random.default_rng(8), 1000, norm.isf(rate)
    held = {lots: np.empty(runs) for lots in (5, 18, 19)}
    for run in range(runs):
        new = drawn(rng, 40, threshold)
        spread = spread_between(drawn(rng, 10, threshold))
        for lots, share in held.items():
            known = drawn(rng, lots, threshold)
            share[run] = ((lots_p(new, known, spread) if lots == 19 else lots_model_p(new, known)) <= 0.05).mean()
    for lots, share in held.items():
        assert 0.03 < share.mean() <= (0.05 if lots == 19 else 0.07) + 3.5 * share.std() / runs**0.5


def test_a_test_by_pieces_fails_where_lots_differ() -> None:
    """Shown failing at a rate of 5 %: it holds several times as many good lots as it says."""
    rng, runs, n = np.random.default_rng(9), 1000, 400
    j = int(Fraction("0.05") * (n + 1))
    held = 0
    for _ in range(runs):
        lot_of = np.repeat(np.arange(20), n // 20)
        calibration = np.sort(SD * rng.standard_normal(20)[lot_of] + rng.standard_normal(n))
        new = drawn(rng, 1, float(calibration[-j]))
        held += lot_p(int(new.flagged[0]), int(new.judged[0]), j, n) <= 0.05
    assert held / runs > 0.10


def test_a_raw_share_holds_small_lots_more_often_than_the_statistic() -> None:
    """Of good lots in the top twentieth, the small ones."""
    rng = np.random.default_rng(10)
    judged = np.where(np.arange(40_000) % 2 == 0, 50, 1000)
    counts = LotCounts(rng.binomial(judged, norm.sf(norm.isf(0.05) - SD * rng.standard_normal(40_000))), judged)
    z, raw = lot_statistic(counts, spread_between(counts)), counts.flagged / judged
    small = judged == 50
    by_raw, by_z = (small[one >= np.quantile(one, 0.95)].mean() for one in (raw, z))
    assert by_raw > 0.75 and by_z < 0.5


def test_spread_between_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(11)
    judged = rng.integers(200, 1001, 4000)
    own = rng.beta(5, 95, 4000)  # mean 0.05, variance 0.05 x 0.95 / 101
    found = spread_between(LotCounts(rng.binomial(judged, own), judged))
    assert found.share == pytest.approx(0.05, rel=0.03)
    assert found.variance == pytest.approx(0.05 * 0.95 / 101, rel=0.1)
    assert spread_between(LotCounts(rng.binomial(judged, 0.05), judged)).variance < 6e-6
    assert 0 < spread_between(lot_counts([0], [100])).share < 0.01


def test_lots_p_counts_ties_against_the_lot() -> None:
    known = lot_counts([2] * 19, [100] * 19)
    spread = LotSpread(0.01, 0.0001)
    assert lots_p(lot_counts([2, 3, 1], [100, 100, 100]), known, spread).tolist() == [1, 0.05, 1]
    assert lots_p(lot_counts([4], [200]), known, spread)[0] == 0.05  # as large a share of more pieces says more


def test_lots_model_p_by_hand() -> None:
    """Lots of one size: weights are equal, and p is a plain t-test of one new value."""
    c, m = np.array([3, 5, 6, 4, 12]), 100
    y = np.arcsin(np.sqrt((c + 0.375) / (m + 0.75)))
    v = 1 / (4 * m + 2)
    between = max(0.0, y.var(ddof=1) - v)
    new = np.arcsin(np.sqrt((9 + 0.375) / (m + 0.75)))
    expected = t.sf((new - y.mean()) / np.sqrt(between + v + (between + v) / 5), 4)
    assert lots_model_p(lot_counts([9], [m]), lot_counts(c, [m] * 5))[0] == pytest.approx(expected)


def test_bases_and_faults() -> None:
    assert [basis_of(lots) for lots in (0, 4, 5, 18, 19, 100)] == ["pieces"] * 2 + ["lots_model"] * 2 + ["lots"] * 2
    assert "not covered" in SAYS["pieces"] and "assuming" in SAYS["lots_model"]
    few = lot_counts([1] * 4, [100] * 4)
    with pytest.raises(VerdictError, match="known-good lots must be 19 or more for ranks of lots; got 4"):
        lots_p(few, few, LotSpread(0.01, 0.0))
    with pytest.raises(VerdictError, match="known-good lots must be 5 or more for a model of lots; got 4"):
        lots_model_p(few, few)
    for flagged, judged in (([1], [0]), ([3], [2]), ([-1], [2]), ([1, 2], [5])):
        with pytest.raises(VerdictError, match="flagged must be from 0 to the judged pieces of each lot"):
            lot_counts(flagged, judged)
