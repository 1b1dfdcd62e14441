"""Run lengths against published tables, a finer quadrature and simulation, and the suspensions of a short reference."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts import cusum
from models.verdicts.cusum import LIMIT, MOST, false_suspension, run_length, slack_of, start, update


@pytest.mark.parametrize(
    ("limit", "shift", "expected"),
    [
        (4, 0.0, 168),
        (4, 0.25, 74.2),
        (4, 0.5, 26.6),
        (4, 1.0, 8.38),
        (4, 2.0, 3.34),
        (5, 0.0, 465),
        (5, 0.25, 139),
        (5, 0.5, 38.0),
        (5, 1.0, 10.4),
        (5, 2.0, 4.01),
        (5, 3.0, 2.57),
    ],
)
def test_montgomerys_table_of_two_sided_run_lengths(limit, shift, expected):
    """Montgomery, Introduction to Statistical Quality Control, table 9.3: k = 0.5."""
    assert run_length(shift, slack=0.5, limit=limit) == pytest.approx(expected, rel=0.005)


def test_the_quadrature_has_converged(monkeypatch):
    found = [run_length(shift, scale, slack) for shift, scale, slack in [(0, 1, 0.5), (0.3, 0.6, 0.5), (1, 1.5, 1.0)]]
    monkeypatch.setattr(cusum, "NODES", 96)
    again = [run_length(shift, scale, slack) for shift, scale, slack in [(0, 1, 0.5), (0.3, 0.6, 0.5), (1, 1.5, 1.0)]]
    assert found == pytest.approx(again, rel=1e-6)


def suspended(reference, channels, horizon, slack, runs, seed):
    """The share of simulated references in which a sum exceeds h within unchanged nights, by `update` itself."""
    rng = np.random.default_rng(seed)
    nights = rng.normal(size=(runs, reference, channels))
    mean, spread = nights.mean(1).ravel(), nights.std(1, ddof=1).ravel()
    sums, ended = start(runs * channels), np.zeros(runs, bool)
    for _ in range(horizon):
        sums = update(sums, (rng.normal(size=runs * channels) - mean) / spread, slack)
        ended |= (sums.largest() > LIMIT).reshape(runs, channels).any(1)
    return ended.mean()


@pytest.mark.parametrize("reference", [20, 60])
def test_the_chance_of_a_false_suspension_is_what_simulation_finds(reference):
    runs = 3000
    found = suspended(reference, 8, 100, slack_of(reference), runs, seed=0)
    expected = false_suspension(reference, 8, 100)
    assert abs(found - expected) < 3.5 * np.sqrt(expected * (1 - expected) / runs)


def test_the_textbooks_slack_fails_with_a_short_reference():
    """With k = 0.5 half of all references of 20 nights are suspended within 30 unchanged nights; with ours, one in twenty."""
    assert suspended(20, 8, 30, 0.5, runs=2000, seed=1) > 0.45
    assert suspended(20, 8, 30, slack_of(20), runs=2000, seed=1) < 0.065
    assert false_suspension(20, 8, 30, slack=0.5) == pytest.approx(0.5, abs=0.02)


def test_a_year_of_unchanged_nights():
    assert 0.15 < false_suspension(60, 8, 365) < false_suspension(20, 8, 365) < 0.40


def test_delays_by_simulation():
    rng = np.random.default_rng(2)
    slack, runs = slack_of(20), 4000
    sums, delay = start(runs), np.zeros(runs)
    for night in range(1, 200):
        sums = update(sums, rng.normal(1.5, 1, runs), slack)
        delay = np.where((delay == 0) & (sums.largest() > LIMIT), night, delay)
    assert (delay > 0).all()
    assert delay.mean() == pytest.approx(run_length(1.5, slack=slack), rel=0.03)


def test_one_night_alone_never_exceeds_the_limit():
    sums = update(start(2), [1e9, -1e9], slack=0.5)
    assert sums.largest().tolist() == [MOST - 0.5, MOST - 0.5] and MOST - 0.5 < LIMIT
    assert sums.shift(0.5).tolist() == [MOST, -MOST]


def test_a_long_shift_is_forgotten_after_two_quiet_nights():
    sums = start(1)
    for _ in range(50):
        sums = update(sums, [3.0], slack=0.5)
    assert sums.largest()[0] > LIMIT
    for _ in range(2):
        sums = update(sums, [0.0], slack=0.5)
    assert sums.largest()[0] <= LIMIT


def test_wrong_numbers():
    with pytest.raises(VerdictError, match="distance must be"):
        update(start(2), [1.0], 0.5)
    with pytest.raises(VerdictError, match="distance must be"):
        update(start(1), [np.nan], 0.5)
    with pytest.raises(VerdictError, match="scale and limit must be"):
        run_length(scale=0)
    with pytest.raises(VerdictError, match="reference must be"):
        false_suspension(1, 8, 30)
