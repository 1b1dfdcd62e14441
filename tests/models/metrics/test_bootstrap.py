"""Intervals by group: right for a mean, wider when images of a group agree, reproducible."""

import numpy as np
import pytest

from models.metrics.bootstrap import interval


def test_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    found = interval(lambda drawn: np.array([values[drawn].mean()]), range(400), draws=2000)
    assert found.value[0] == pytest.approx(values.mean())
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_groups_that_agree_make_it_wider() -> None:
    values = np.repeat(np.random.default_rng(1).standard_normal(40), 10)
    groups = np.repeat(np.arange(40), 10)
    mean = lambda drawn: np.array([values[drawn].mean()])  # noqa: E731
    by_image, by_group = interval(mean, range(400)), interval(mean, groups)
    assert by_group.high[0] - by_group.low[0] > 2.5 * (by_image.high[0] - by_image.low[0])


def test_same_seed_same_interval_and_several_figures() -> None:
    values = np.arange(30.0)
    figures = lambda drawn: np.array([values[drawn].mean(), values[drawn].max()])  # noqa: E731
    first, again = interval(figures, range(30), 200, seed=3), interval(figures, range(30), 200, seed=3)
    assert first.low.tolist() == again.low.tolist() and first.high.tolist() == again.high.tolist()
    assert first.value.tolist() == [14.5, 29.0]


def test_no_interval_from_one_group_or_from_nan() -> None:
    one = interval(lambda drawn: np.array([1.0]), ["a", "a"])
    none = interval(lambda drawn: np.array([np.nan]), range(10))
    assert np.isnan(one.low[0]) and one.value[0] == 1.0
    assert np.isnan(none.low[0]) and np.isnan(none.high[0])
