"""Bounds of stratified reviews: against a general optimiser, against enumeration, and their coverage."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, hypergeom

from models.faults import VerdictError
from models.verdicts.sampling import (
    fay_feuer,
    none_found,
    none_found_pieces,
    review,
    some_found,
    some_found_pieces,
)


def test_none_of_300_says_at_most_one_percent():
    assert none_found([10**7], [300]) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert none_found([10**7], [300]) < 0.01 < none_found([10**7], [298])


@pytest.mark.parametrize("seed", range(8))
def test_the_closed_form_is_the_maximum(seed):
    rng = np.random.default_rng(seed)
    sizes, sampled = rng.integers(200, 5000, 4), rng.integers(5, 200, 4)
    weights = sizes / sizes.sum()
    limit = {"type": "ineq", "fun": lambda p: (sampled * np.log1p(-p)).sum() - np.log(0.05)}
    starts = [np.full(4, 0.001), *(np.eye(4) * 0.01)]
    best = max(-minimize(lambda p: -(weights * p).sum(), x, bounds=[(0, 0.999)] * 4, constraints=limit).fun for x in starts)
    assert none_found(sizes, sampled) == pytest.approx(best, abs=1e-5)


def test_strata_sampled_at_one_rate_are_one_sample():
    assert none_found([600, 300, 100], [60, 30, 10]) == pytest.approx(none_found([1000], [100]))


def test_a_stratum_nobody_looked_at_counts_as_bad():
    assert none_found([900, 100], [300, 0]) == pytest.approx(0.1 + 0.9 * none_found([900], [300]))
    assert none_found_pieces([900, 100], [300, 0]) == 100 + none_found_pieces([900], [300])
    assert fay_feuer([900, 100], [300, 0], [0, 0]) > 0.1
    assert none_found([900], [0]) == fay_feuer([900], [0], [0]) == 1.0


@pytest.mark.parametrize(("sizes", "sampled"), [([30, 20], [10, 9]), ([40, 12], [6, 10]), ([25, 25], [25, 3])])
def test_finite_strata_are_exact(sizes, sampled):
    """Every pair of bad counts is tried."""
    a, b = np.meshgrid(np.arange(sizes[0] + 1), np.arange(sizes[1] + 1), indexing="ij")
    none = hypergeom.pmf(0, sizes[0], a, sampled[0]) * hypergeom.pmf(0, sizes[1], b, sampled[1])
    assert none_found_pieces(sizes, sampled) == (a + b)[none >= 0.05].max()


@pytest.mark.parametrize("found", [0, 1, 3])
def test_one_finite_lot_is_the_hypergeometric_bound(found):
    bad = np.arange(501)
    possible = hypergeom.cdf(found, 500, bad, 80) > 0.05
    assert some_found_pieces([500], [80], [found]) == bad[possible].max()


@pytest.mark.parametrize("shares", [(0.02, 0.05), (0.0, 0.06), (0.03, 0.0), (0.06, 0.15), (0.10, 0.04), (0.30, 0.40)])
def test_the_rules_together_cover(shares):
    """All outcomes of two strata are summed: the bound without a find and the bound after one share one level."""
    sizes, sampled = np.array([3000, 1000]), np.array([60, 40])
    truth = (sizes * shares).sum() / sizes.sum()
    missed = 0.0
    for x in range(sampled[0] + 1):
        for y in range(sampled[1] + 1):
            chance = binom.pmf(x, sampled[0], shares[0]) * binom.pmf(y, sampled[1], shares[1])
            if chance > 1e-9 and review(sizes, sampled, [x, y]).share < truth - 1e-12:
                missed += chance
    assert missed <= 0.05


def test_the_bound_without_a_find_is_as_short_as_its_level_allows():
    """At the worst shares it misses in nearly 5 %, so no smaller bound would do."""
    sizes, sampled = np.array([3000, 1000]), np.array([60, 40])
    bound = none_found(sizes, sampled)
    shares = np.linspace(0, 1, 20001)
    other = (bound + 1e-9 - 0.75 * shares) / 0.25
    possible = (other >= 0) & (other <= 1)
    missed = (1 - shares[possible]) ** 60 * (1 - other[possible]) ** 40
    assert 0.0499 < missed.max() <= 0.05


def test_no_find_is_never_worse_than_a_find():
    """What the proof of the level needs."""
    for sizes, sampled in [([3000, 1000], [60, 40]), ([900, 100, 50], [30, 30, 30]), ([80, 70], [20, 50])]:
        zero = np.zeros(len(sizes), int)
        assert none_found(sizes, sampled) <= some_found(sizes, sampled, zero)
        assert none_found_pieces(sizes, sampled) <= some_found_pieces(sizes, sampled, zero)


def test_fay_feuer_is_near_and_short():
    """3,000 reviews with about five finds: it covers here, and is well below the exact bound."""
    rng = np.random.default_rng(0)
    sizes, sampled, shares = np.array([6000, 3000, 1000]), np.array([200, 100, 100]), np.array([0.005, 0.01, 0.03])
    truth = (sizes * shares).sum() / sizes.sum()
    found = rng.binomial(sampled, shares, (3000, 3))
    found = found[found.any(1)]
    near = np.array([fay_feuer(sizes, sampled, row) for row in found])
    exact = np.array([some_found(sizes, sampled, row) for row in found])
    assert np.mean(near >= truth) > 0.95 - 2 * np.sqrt(0.05 * 0.95 / len(found))
    assert np.mean(near / exact) < 0.7


@pytest.mark.parametrize(
    ("sizes", "sampled", "bad"),
    [([10], [11], [0]), ([10], [5], [6]), ([10, 10], [5], [0]), ([10.5], [5], [0]), ([0], [0], [0])],
)
def test_counts_that_cannot_be(sizes, sampled, bad):
    with pytest.raises(VerdictError, match="must be"):
        review(sizes, sampled, bad)
