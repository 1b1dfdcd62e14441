"""Bounds of a share against binomial sums and published figures."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from models.faults import VerdictError
from models.verdicts.exact_interval import at_least, at_most, two_sided


def test_they_agree_with_scipy():
    for count, total in [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (17, 400)]:
        expected = binomtest(count, total).proportion_ci(0.95, "exact")
        found = two_sided(count, total)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_both_bounds_hold_for_every_true_share(level):
    """The coverage is summed over all outcomes, so this is no simulation."""
    total = 60
    outcomes = np.arange(total + 1)
    low, high = at_least(outcomes, total, level), at_most(outcomes, total, level)
    shares = np.linspace(0.0005, 0.9995, 2000)
    chance = binom.pmf(outcomes, total, shares[:, None])
    covered_low, covered_high = (chance * (low <= shares[:, None])).sum(1), (chance * (high >= shares[:, None])).sum(1)
    assert covered_low.min() >= level - 1e-9 and covered_high.min() >= level - 1e-9
    assert covered_low.min() < level + 0.005  # it is exact, not merely wide


def test_nothing_counted_says_nothing():
    found = two_sided(0, 0)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (1.5, 3)])
def test_counts_are_whole_and_at_most_the_total(count, total):
    with pytest.raises(VerdictError, match="count must be"):
        at_most(count, total)
    with pytest.raises(VerdictError, match="level must be"):
        at_least(1, 3, level=95)
