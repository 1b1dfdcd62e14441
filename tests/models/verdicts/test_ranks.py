"""Ranks count ties against the new piece, decide in integers, and keep the rate for new pieces."""

from fractions import Fraction

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.ranks import flagged, piece_p, ranks, sorted_calibration
from models.verdicts.rates import allowed_rank


def test_ranks_are_counts_with_ties() -> None:
    rng = np.random.default_rng(0)
    calibration, new = rng.integers(0, 30, 200), rng.integers(-3, 34, 500)
    expected = 1 + (calibration[None, :] >= new[:, None]).sum(axis=1)
    found = ranks(new, sorted_calibration(calibration))
    assert found.dtype == np.int64 and found.tolist() == expected.tolist()
    assert piece_p(found, 200).tolist() == (expected / 201).tolist()


def test_scores_that_are_equal_in_float32_are_ties() -> None:
    assert ranks([1 + 1e-9, 1 + 1e-6], sorted_calibration([1.0])).tolist() == [2, 1]


def test_the_verdict_is_integer_arithmetic() -> None:
    rank = np.arange(1, 102)
    for text in ("0.29", "0.57", "0.07"):
        assert flagged(rank, Fraction(text), 100).sum() == allowed_rank(Fraction(text), 100)
    assert flagged(np.array([29]), Fraction("0.29"), 99)[0] and not 29 / 100 <= 0.29 - 1e-12
    assert not flagged(np.array([1]), Fraction("0.01"), 98).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_scores_that_are_not_finite_are_errors(bad: float) -> None:
    with pytest.raises(VerdictError, match="scores must be finite; got .* at 1"):
        ranks([0, bad], sorted_calibration([1.0]))
    with pytest.raises(VerdictError, match="calibration scores must be finite"):
        sorted_calibration([0, bad])


def test_scores_are_one_column() -> None:
    with pytest.raises(VerdictError, match=r"calibration scores must be one column; got the shape \(2, 2\)"):
        sorted_calibration([[1, 2], [3, 4]])


def test_an_empty_calibration() -> None:
    with pytest.raises(VerdictError, match="calibration pieces must be 1 or more; got 0"):
        sorted_calibration([])


@pytest.mark.parametrize("n", [19, 99, 400])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_rate_holds_on_average_over_calibrations(n: int, step: float) -> None:
    """And is met where nothing ties: a rule one rank stricter or laxer fails."""
    rng, runs, new = np.random.default_rng(n), 4000, 20
    scores = rng.standard_normal((runs, n + new), np.float32)
    scores = np.round(scores / step) * step if step else scores
    found = np.stack([ranks(row[n:], sorted_calibration(row[:n])) for row in scores])
    for rate in map(Fraction, ("0.01", "0.05", "0.1")):
        share = flagged(found, rate, n).mean(axis=1)
        error = max(share.std() / runs**0.5, 1e-9)
        assert share.mean() <= float(rate) + 3.5 * error
        if not step:
            assert share.mean() >= allowed_rank(rate, n) / (n + 1) - 3.5 * error
