"""The map threshold's rank, in exact numbers, and the share of new pieces above it."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.map_threshold import map_threshold, pieces_needed


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (18, 0.05, None),
        (19, 0.05, 19.0),
        (38, 0.05, 38.0),
        (39, 0.05, 38.0),
        (99, 0.29, 71.0),  # rank 29, whatever 0.29 * 100 is in floats
        (98, 0.01, None),
        (99, 0.01, 99.0),
    ],
)
def test_the_rank(count, share, expected):
    assert map_threshold(range(1, count + 1), range(count), share) == expected


@pytest.mark.parametrize("share", [0.5, 0.29, 0.1, 0.07, 0.05, 0.01, 0.001])
def test_pieces_needed_is_where_a_threshold_begins(share):
    needed = pieces_needed(share)
    assert map_threshold(np.ones(needed), range(needed), share) == 1.0
    assert needed == 1 or map_threshold(np.ones(needed - 1), range(needed - 1), share) is None


def test_new_pieces_exceed_it_at_the_given_share_where_images_are_alike():
    """Five images a piece, 0.9 of the variance between pieces: the rule by image is off, the rule by piece is not."""
    rng = np.random.default_rng(0)
    runs, pieces, share = 4000, 39, 0.05
    values = np.sqrt(0.9) * rng.normal(size=(runs, pieces + 1, 1)) + np.sqrt(0.1) * rng.normal(size=(runs, pieces + 1, 5))
    names = np.repeat(np.arange(pieces), 5)
    new = values[:, -1].max(1)
    above = np.mean([new[i] > map_threshold(values[i, :-1].ravel(), names, share) for i in range(runs)])
    by_image = np.mean([new[i] > map_threshold(values[i, :-1].ravel(), range(len(names)), share) for i in range(runs)])
    error = 3.5 * np.sqrt(share * (1 - share) / runs)
    assert share - error < above < share + error  # 39 pieces: rank 2 of 40 is exactly 5 %
    assert by_image > share + error


def test_ties_only_lower_the_share():
    assert map_threshold([1.0, 2.0, 2.0, 2.0], range(4), 0.4) == 2.0


def test_it_is_a_float32_of_the_maxima():
    values = np.random.default_rng(1).normal(size=200)
    found = map_threshold(values, range(200), 0.1)
    assert found in values.astype(np.float32)


@pytest.mark.parametrize("maxima", [[1.0, np.nan], [np.inf, 0], [[1.0, 2.0]], [1.0]])
def test_it_needs_one_finite_value_for_each_image(maxima):
    with pytest.raises(VerdictError, match="maxima must be"):
        map_threshold(maxima, ["a", "b"], 0.5)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_the_share_is_a_share(share):
    with pytest.raises(VerdictError, match="share must be"):
        map_threshold([1.0], ["a"], share)
