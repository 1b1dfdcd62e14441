"""Intervals by bootstrap over groups: it draws whole pieces, captures or lots, never single images of one piece."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = (0.025, 0.975)


class Interval(NamedTuple):
    """A figure and its 95 % interval; low and high are nan if fewer than half of the draws had a value."""

    value: float
    low: float
    high: float


class Intervals(NamedTuple):
    """Several figures and their 95 % intervals, each (F,)."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    groups: Sequence[object],
    draws: int = 1000,
    seed: int = 0,
) -> Intervals:
    """Percentile bootstrap of figures over groups.

    Args:
        statistic: positions of the images in a draw (with repeats) to (F,) figures; nan for a figure that a draw lacks.
        groups: the group of every image, (N,); if every image is its own group, this is a bootstrap by image.
        draws: how many times the groups are drawn with replacement; the same draws serve all figures.
    Returns:
        the figures of all images, and the 2.5 % and 97.5 % points of the draws.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; by cluster: Field & Welsh 2007.

    >>> scores = np.arange(8.0)
    >>> found = interval(lambda drawn: np.array([scores[drawn].mean()]), groups=list("aabbccdd"), draws=200)
    >>> found.value.tolist(), bool(found.low[0] < 3.5 < found.high[0])
    ([3.5], True)
    """
    _, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    order = np.argsort(code, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(code))[:-1])
    rng = np.random.default_rng(seed)
    point = np.atleast_1d(np.asarray(statistic(np.arange(len(code))), np.float64))
    values = np.empty((draws, len(point)))
    for draw in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        values[draw] = statistic(np.concatenate([members[group] for group in drawn]))
    low, high = np.full(len(point), np.nan), np.full(len(point), np.nan)
    for figure in range(len(point)):
        finite = values[np.isfinite(values[:, figure]), figure]
        if len(members) > 1 and len(finite) >= draws / 2:
            low[figure], high[figure] = np.quantile(finite, LEVEL)
    return Intervals(point, low, high)
