"""The band holds at all thresholds at once, is as tight as it may be, and works for large calibrations."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta, binom

from models.faults import VerdictError
from models.verdicts.band import band, bound_at, bound_of_count, coverage, covers_lots, fixed_rate_bound
from models.verdicts.rates import pieces_needed, smallest_rate

PRESET = [Fraction(text) for text in ("0.001", "0.01", "0.05", "0.1")]


def by_binomial_increments(n: int, nodes: np.ndarray, bounds: np.ndarray) -> float:
    """The recursion as its definition reads: N gains Bin(n - N, (b_j - b_prev) / (1 - b_prev)), states N < j dropped."""
    states, before = np.zeros(n + 1), 0.0
    states[0] = 1
    for node, bound in zip(nodes, bounds, strict=True):
        step = (bound - before) / (1 - before)
        gained = np.zeros(n + 1)
        for held in np.flatnonzero(states):
            gained[held:] += states[held] * binom.pmf(np.arange(n - held + 1), n - held, step)
        gained[:node] = 0
        states, before = gained, bound
    return float(states.sum())


@pytest.mark.parametrize("n", [1, 2, 5, 19, 60, 200, 400])
def test_coverage_equals_the_recursion_with_binomial_increments(n: int) -> None:
    found = band(n, PRESET)
    assert coverage(n, found.nodes, found.bounds) == pytest.approx(0.95, abs=1e-9)
    assert by_binomial_increments(n, found.nodes, found.bounds) == pytest.approx(0.95, abs=1e-9)
    assert (np.diff(found.bounds) > 0).all() and found.bounds[-1] < 1


def test_figures_of_the_design() -> None:
    """400 pieces promise 2.6 % at a rate of 1 %, and 8.0 % at 5 %, at any threshold."""
    found = band(400, PRESET)
    assert found.nodes.tolist() == [1, 2, 3, 4, 5, 8, 12, 18, 20, 27, 40, 41, 62, 80]
    assert [round(bound_of_count(found, rank - 1), 3) for rank in (4, 20)] == [0.026, 0.08]


@pytest.mark.parametrize("n", [19, 100, 400, 4000])
def test_the_band_covers_all_thresholds_together(n: int) -> None:
    """In 20,000 calibrations; and not much more, so a wider band fails too."""
    runs = 20_000 if n < 4000 else 3000
    found = band(n, PRESET)
    sorted_u = np.sort(np.random.default_rng(n).random((runs, n), np.float32), axis=1)
    held = (sorted_u[:, found.nodes - 1] <= found.bounds).all(axis=1).mean()
    assert abs(held - 0.95) <= 3.5 * (0.95 * 0.05 / runs) ** 0.5


def test_a_threshold_that_looks_at_everything() -> None:
    """Somebody takes, of all thresholds, the one whose true rate is farthest above its bound; with ties as well."""
    rng, runs, n = np.random.default_rng(5), 400, 100
    found = band(n, PRESET)
    for levels in (20, 1_000_000):
        held = 0
        for _ in range(runs):
            calibration = np.sort(rng.integers(0, levels, n)).astype(np.float32)
            thresholds = np.unique(np.concatenate([calibration, calibration + 1]))
            truth = 1 - thresholds / levels
            held += all(true <= bound_at(found, calibration, t) for true, t in zip(truth, thresholds, strict=True))
        assert held / runs >= 0.95 - 3.5 * (0.95 * 0.05 / runs) ** 0.5


def test_bound_at_counts_what_reaches_the_threshold() -> None:
    found, calibration = band(100), np.arange(100, dtype=np.float32)
    assert bound_at(found, calibration, 99.5) == found.bounds[0]  # none reaches it
    assert bound_at(found, calibration, 99.0) == found.bounds[1]
    assert bound_at(found, calibration, 96.5) == found.bounds[found.nodes.tolist().index(5)]  # 3 reach it; next node after 4
    assert bound_at(found, calibration, 80.5) == found.bounds[-1]  # 19 reach it: the last node, 20
    assert bound_at(found, calibration, 79.5) == 1
    tenth = np.array([0.1] * 100, np.float32)
    assert bound_at(found, tenth, 0.1) == 1  # 0.1 in float32 is above 0.1, so all reach it
    assert bound_at(found, tenth, 0.1000001) == found.bounds[0]


def test_a_large_calibration() -> None:
    found = band(100_000, PRESET)
    assert coverage(100_000, found.nodes, found.bounds) == pytest.approx(0.95, abs=1e-9)
    assert bound_of_count(found, 999) == pytest.approx(0.0109, abs=1e-4)
    rng, runs = np.random.default_rng(7), 4000
    spacing = np.diff(found.nodes, prepend=0, append=100_001).astype(float)  # order statistics of uniforms by gammas
    gaps = rng.gamma(spacing, size=(runs, len(spacing)))
    points = np.cumsum(gaps, axis=1)[:, :-1] / gaps.sum(axis=1, keepdims=True)
    held = (points <= found.bounds).all(axis=1).mean()
    assert abs(held - 0.95) <= 3.5 * (0.95 * 0.05 / runs) ** 0.5


def test_a_rate_fixed_beforehand() -> None:
    assert fixed_rate_bound(1, 200) == pytest.approx(smallest_rate(200).at_95)
    for text in ("0.001", "0.01", "0.05"):
        n = pieces_needed(Fraction(text)).at_95
        assert fixed_rate_bound(1, n) <= float(Fraction(text)) < fixed_rate_bound(1, n - 1)
    assert beta.cdf(fixed_rate_bound(7, 90), 7, 84) == pytest.approx(0.95)
    assert fixed_rate_bound(4, 400) < bound_of_count(band(400, PRESET), 3)


def test_lots_and_faults() -> None:
    assert [covers_lots(lots) for lots in (0, 19, 20, 300)] == [False, False, True, True]
    with pytest.raises(VerdictError, match="calibration pieces must be 1 or more; got 0"):
        band(0)
    with pytest.raises(VerdictError, match="rank must be from 1 to 50, the calibration's pieces; got 0"):
        fixed_rate_bound(0, 50)
    with pytest.raises(VerdictError, match="threshold must be finite and for a calibration of 50 pieces; got nan and 50"):
        bound_at(band(50), np.arange(50, dtype=np.float32), float("nan"))
    with pytest.raises(VerdictError, match="got 1.0 and 49 pieces"):
        bound_at(band(50), np.arange(49, dtype=np.float32), 1.0)
