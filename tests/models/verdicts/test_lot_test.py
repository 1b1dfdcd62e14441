"""The lot test: exact tails, levels that hold, a limit that holds for 95 % of calibrations, and defects never overcounted."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.stats import binom

from models.faults import VerdictError
from models.verdicts.band import fixed_rate_bound
from models.verdicts.lot_test import (
    LotRanks,
    count_flagged,
    defects_at_least,
    expected_false_holds,
    hold_limit,
    lot_p,
    shift_p,
    shift_p_of_ranks,
)
from models.verdicts.ranks import sorted_calibration


def exact_tail(c: int, m: int, j: int, n: int) -> Fraction:
    """P(B >= c) by counting: of the orders of n + m exchangeable pieces, those with b new ones above the j-th old one."""
    ways = [comb(j - 1 + b, b) * comb(n - j + m - b, m - b) for b in range(m + 1)]
    return Fraction(sum(ways[c:]), comb(n + m, m))


@pytest.mark.parametrize(("m", "j", "n"), [(1, 1, 1), (5, 1, 19), (30, 4, 99), (60, 20, 40), (200, 1, 400)])
def test_lot_p_is_the_exact_count(m: int, j: int, n: int) -> None:
    for c in {0, 1, m // 4, m // 2, m}:
        assert lot_p(c, m, j, n) == pytest.approx(float(exact_tail(c, m, j, n)), rel=1e-9)
    assert lot_p(0, m, j, n) == 1


def test_small_tails_keep_their_digits() -> None:
    assert lot_p(60, 60, 1, 400) == pytest.approx(float(exact_tail(60, 60, 1, 400)), rel=1e-9)
    assert 0 < lot_p(2000, 5000, 4, 400) < 1e-70


def test_count_is_strictly_above_the_jth_largest() -> None:
    calibration = sorted_calibration([1, 2, 3, 3, 5])
    assert [count_flagged([3, 3.5, 5, 6], calibration, j) for j in (1, 2, 3, 4)] == [1, 3, 3, 4]
    rng = np.random.default_rng(0)
    calibration, lot = sorted_calibration(rng.integers(0, 50, 100)), rng.integers(0, 60, 300)
    for j in (1, 5, 50, 100):
        assert count_flagged(lot, calibration, j) == (lot > np.sort(calibration)[-j]).sum()


@pytest.mark.parametrize("n", [99, 400])
def test_the_level_of_lot_p(n: int) -> None:
    """100,000 lots with a calibration each: c given the threshold's rate u ~ Beta(j, n + 1 - j) is Bin(m, u)."""
    rng, runs, m = np.random.default_rng(n), 100_000, 500
    for j in (1, n // 20):
        c = rng.binomial(m, rng.beta(j, n + 1 - j, runs))
        p = np.array([lot_p(count, m, j, n) for count in range(c.max() + 1)])[c]
        for level in (0.05, 0.01, 0.001):
            assert (p <= level).mean() <= level + 3.5 * (level / runs) ** 0.5
        assert (p <= 0.05).mean() > 0.02


def test_the_level_of_lot_p_from_scores_with_ties() -> None:
    rng, runs, n, m, j = np.random.default_rng(1), 2000, 99, 60, 5
    for step in (0.0, 0.5):
        found = []
        for _ in range(runs):
            scores = rng.standard_normal(n + m)
            scores = np.round(scores / step) * step if step else scores
            found.append(lot_p(count_flagged(scores[n:], sorted_calibration(scores[:n]), j), m, j, n))
        assert (np.array(found) <= 0.05).mean() <= 0.05 + 3.5 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.parametrize("n", [200, 1000, 4000])
@pytest.mark.parametrize("m", [100, 1000, 5000])
def test_the_conditional_limit_holds_for_95_of_100_calibrations(n: int, m: int) -> None:
    rng, runs = np.random.default_rng(n + m), 20_000
    for rate in ("0.01", "0.05"):
        j = int(Fraction(rate) * (n + 1))
        limit = hold_limit(m, j, n)
        held = binom.sf(limit - 1, m, rng.beta(j, n + 1 - j, runs))  # share of good lots that each calibration holds
        assert (held <= 0.05).mean() >= 0.95 - 3.5 * (0.95 * 0.05 / runs) ** 0.5
        worst = fixed_rate_bound(j, n)
        assert binom.sf(limit - 1, m, worst) <= 0.05 < binom.sf(limit - 2, m, worst)


def test_the_marginal_test_would_hold_a_third_of_good_lots_for_one_calibration_in_twenty() -> None:
    """Why the limit is conditional: n = 400, 1 %, m = 1,000."""
    u = fixed_rate_bound(4, 400)
    marginal = next(c for c in range(1000) if lot_p(c, 1000, 4, 400) <= 0.05)
    assert binom.sf(marginal - 1, 1000, u) > 0.25
    assert binom.sf(hold_limit(1000, 4, 400) - 1, 1000, u) <= 0.05


@pytest.mark.parametrize("defects", [0, 1, 5, 20])
def test_defects_at_least_exceeds_the_truth_in_at_most_5_of_100(defects: int) -> None:
    rng, runs, m = np.random.default_rng(defects), 40_000, 300
    for j, n in ((1, 99), (4, 400), (20, 400)):
        good = rng.binomial(m - defects, rng.beta(j, n + 1 - j, runs))
        claimed = np.array([defects_at_least(c, m, j, n) for c in range(good.max() + defects + 1)])
        for detected in (0, defects // 2, defects):  # flagged defects may be any number of them
            over = (claimed[good + detected] > defects).mean()
            assert over <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
    assert defects_at_least(300, m, 4, 400) > 250


def test_defects_at_least_is_the_smallest_number() -> None:
    m, j, n = 80, 2, 99
    for c in range(m + 1):
        plain = next(d for d in range(c + 1) if (lot_p(c - d, m - d, j, n) if d < m else 1.0) > 0.05)
        assert defects_at_least(c, m, j, n) == plain


def test_expected_false_holds() -> None:
    sizes, j, n = [100] * 20 + [1000] * 10 + [1], 4, 400
    found = expected_false_holds(sizes, j, n)
    u = np.random.default_rng(0).beta(j, n + 1 - j, 200_000)
    expected = sum(binom.sf(hold_limit(m, j, n) - 1, m, u) * sizes.count(m) for m in set(sizes))
    assert found.on_average == pytest.approx(expected.mean(), rel=0.02)
    assert (expected <= found.at_most).mean() == pytest.approx(0.95, abs=0.003)
    assert found.at_most <= 0.05 * len(sizes)


def test_shift_p_keeps_its_level_and_sees_another_lot() -> None:
    rng, runs = np.random.default_rng(2), 400
    for m, step in ((5, 0.0), (40, 0.5), (300, 0.0)):
        p = np.empty(runs)
        for run in range(runs):
            scores = rng.standard_normal(m + 200)
            scores = np.round(scores / step) * step if step else scores
            p[run] = shift_p(scores[:m], sorted_calibration(scores[m:]))
        assert (p <= 0.05).mean() <= 0.05 + 3.5 * (0.05 * 0.95 / runs) ** 0.5
    calibration = sorted_calibration(rng.standard_normal(200))
    assert shift_p(rng.standard_normal(200) - 0.8, calibration) < 1e-6
    assert shift_p([1.0, 1.0], sorted_calibration([1.0, 1.0])) == 1


def test_faults() -> None:
    with pytest.raises(VerdictError, match="judged pieces must be 1 or more; got 0"):
        lot_p(0, 0, 1, 99)
    with pytest.raises(VerdictError, match="flagged pieces must be from 0 to 5, those judged; got 6"):
        defects_at_least(6, 5, 1, 99)
    with pytest.raises(VerdictError, match="rank must be from 1 to 99"):
        hold_limit(5, 0, 99)
    with pytest.raises(VerdictError, match="judged pieces must be 1 or more; got 0"):
        shift_p([], sorted_calibration([1.0]))


@pytest.mark.parametrize("seed", range(40))
def test_shift_by_ranks_is_the_test_of_the_scores(seed):
    rng = np.random.default_rng(seed)
    n, m = (int(rng.integers(1, 12)), int(rng.integers(1, 12))) if seed % 2 else (200, 300)
    calibration = np.sort(rng.normal(size=n).round(seed % 3 + 1)).astype(np.float32)
    scores = (rng.normal(0.02 * seed, 1, size=m) + 0.0007 * np.arange(m)).astype(np.float32)  # no ties within the lot
    scores[: m // 3] = rng.choice(calibration, size=m // 3, replace=False) if m // 3 <= n else scores[: m // 3]
    scores = np.unique(scores)
    below, upto = (np.searchsorted(calibration, scores, side=side) for side in ("left", "right"))
    places, pieces = np.unique(np.stack([below, upto - below]), axis=1, return_counts=True)
    found = shift_p_of_ranks(LotRanks(places[0], places[1], pieces), calibration)
    assert found == pytest.approx(shift_p(scores, calibration), abs=1e-12)


def test_a_lot_that_is_tied_with_all_of_the_calibration_is_not_shifted():
    calibration = np.full(50, 2.0, np.float32)
    assert shift_p_of_ranks(LotRanks(np.array([0]), np.array([50]), np.array([30])), calibration) == 1.0
