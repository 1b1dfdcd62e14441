"""The lot plans are binomial sums, and what cannot be promised has no plan."""

from fractions import Fraction

import pytest
from scipy.stats import beta, binom

from models.calibration.lot_plans import DEFECTIVE, plans, standing_out, table
from models.verdicts.within_lot import min_flaggable

RATE = Fraction("0.01")


def test_a_plan_holds_few_good_lots_and_its_curve_is_a_binomial_sum() -> None:
    for plan in plans(400, [RATE], {RATE: 0.8}):
        worst = beta.ppf(0.95, 4, 397)
        assert plan.false_holds == pytest.approx(binom.sf(plan.limit - 1, plan.judged, worst)) and plan.false_holds <= 0.05
        for share, passing in zip(DEFECTIVE, plan.passing, strict=True):
            flagged = share * 0.8 + (1 - share) * 4 / 401
            assert passing == pytest.approx(binom.cdf(plan.limit - 1, plan.judged, flagged))


def test_a_rate_without_a_promise_has_no_plan() -> None:
    assert plans(98, [RATE]) == [] and table(98, [RATE]) == []
    assert {plan.rate for plan in plans(98, [RATE, Fraction("0.05")])} == {Fraction("0.05")}


def test_the_table_says_what_it_assumes_of_defects() -> None:
    assert "if every defective piece is flagged; --challenge measures" in table(400, [RATE])[0]
    assert "as the challenge says at least: 80 % at 1 %" in table(400, [RATE], {RATE: 0.8})[0]
    assert table(30, [Fraction("0.05")], sizes=[1])[2].split()[:5] == ["5", "%", "1", "never", "0"]


def test_how_few_pieces_can_stand_out() -> None:
    lines = standing_out(212)
    for size, line in zip((100, 1000, 5000), lines, strict=True):
        assert f"in a lot of {size:,} at least {min_flaggable(size, Fraction('0.1'), 212)} pieces" in line
    assert "for 5 it takes 1,999 good pieces" in lines[1] and "for 5" not in lines[0]
