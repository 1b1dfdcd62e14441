"""OC curves equal exact binomial sums."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.lot_test import hold_limit
from models.verdicts.oc_curve import LotPlan, flagged_share, passes, risks


def exact(m: int, limit: int, p: Fraction) -> Fraction:
    return sum((comb(m, c) * p**c * (1 - p) ** (m - c) for c in range(limit)), Fraction(0))


@pytest.mark.parametrize(("m", "limit"), [(1, 1), (20, 1), (100, 4), (100, 101), (1000, 27)])
def test_passes_is_the_binomial_sum(m: int, limit: int) -> None:
    shares = [Fraction(0), Fraction(1, 1000), Fraction(1, 100), Fraction(1, 10), Fraction(1, 2), Fraction(1)]
    found = passes(LotPlan(m, limit), [float(p) for p in shares])
    for got, p in zip(found, shares, strict=True):
        assert got == pytest.approx(float(exact(m, limit, p)), rel=1e-9, abs=1e-300)


def test_detection_and_false_calls() -> None:
    plan = LotPlan(200, hold_limit(200, 4, 400), detection=0.9, false_calls=0.01)
    share = np.array([0.0, 0.02, 0.3])
    assert flagged_share(plan, share) == pytest.approx(0.01 + 0.89 * share)
    assert passes(plan, share) == pytest.approx(passes(LotPlan(200, plan.limit), 0.01 + 0.89 * share))


def test_risks_against_drawn_lots() -> None:
    rng, runs = np.random.default_rng(0), 40_000
    plan = LotPlan(500, 12, detection=0.8, false_calls=0.01)
    found = risks(plan, aql=0.002, lq=0.02)
    for share, risk, held in ((0.002, found.producer, True), (0.02, found.consumer, False)):
        bad = rng.binomial(500, share, runs)
        flagged = rng.binomial(bad, 0.8) + rng.binomial(500 - bad, 0.01)
        seen = ((flagged >= 12) == held).mean()
        assert abs(seen - risk) <= 3.5 * (risk * (1 - risk) / runs) ** 0.5


def test_the_curve_falls_and_a_limit_beyond_the_lot_holds_none() -> None:
    assert (np.diff(passes(LotPlan(100, 3), np.linspace(0, 0.3, 50))) < 0).all()
    assert passes(LotPlan(10, 11), [0.0, 0.5, 1.0]).tolist() == [1, 1, 1]


def test_faults() -> None:
    with pytest.raises(VerdictError, match="limit must be from 1 to judged"):
        passes(LotPlan(10, 12), 0.1)
    with pytest.raises(VerdictError, match="defective must be from 0 to 1; got"):
        passes(LotPlan(10, 1), 1.5)
    with pytest.raises(VerdictError, match="detection must be from 0 to 1; got 90"):
        risks(LotPlan(10, 1, detection=90), 0.01, 0.1)
    with pytest.raises(VerdictError, match="aql must be below lq; got 0.1 and 0.1"):
        risks(LotPlan(10, 1), 0.1, 0.1)
