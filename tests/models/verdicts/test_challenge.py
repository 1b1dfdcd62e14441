"""Detection bounds, false calls and escapes, against exact binomial sums and whole pieces."""

import numpy as np
import pytest
from scipy.stats import binom

from models.faults import VerdictError
from models.verdicts.challenge import decisions, detection, image_share, pieces_needed
from models.verdicts.exact_interval import two_sided


def test_29_of_29_say_90_percent_at_95():
    (row,) = detection([True] * 29)
    assert row.at_least >= 0.90 and pieces_needed(0.9) == 29
    assert "at least 90 %" in row.sentence()
    (row,) = detection([True] * 28)
    assert row.at_least < 0.90 and "at least 89 %" in row.sentence()


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_pieces_needed_is_the_fewest(share, level):
    needed = pieces_needed(share, level)
    assert share**needed <= 1 - level + 1e-12 and share ** (needed - 1) > 1 - level


def test_size_classes_have_their_own_bounds():
    rows = detection([True] * 40 + [True, False, False], ["large"] * 40 + ["small"] * 3)
    assert [(row.size_class, row.flagged, row.pieces) for row in rows] == [("", 41, 43), ("large", 40, 40), ("small", 1, 3)]
    assert rows[1].at_least > 0.92 and rows[2].at_least < 0.02


def test_false_calls_and_escapes_are_counted_on_their_own_pieces():
    flagged = np.array([True] * 5 + [False] * 95 + [True] * 18 + [False] * 2)
    bad = np.array([False] * 100 + [True] * 20)
    found = decisions(flagged, bad)
    assert found.false_calls == two_sided(5, 100) and found.escapes == two_sided(2, 20)


def test_an_interval_by_image_holds_where_images_of_a_piece_are_alike():
    """60 pieces of 5 images, all alike, 10 % flagged: the interval of 300 independent images fails, ours does not."""
    rng = np.random.default_rng(0)
    runs, share, naive, ours = 2000, 0.1, 0, 0
    names = np.repeat(np.arange(60), 5)
    for _ in range(runs):
        flagged = np.repeat(rng.random(60) < share, 5)
        found, plain = image_share(flagged, names), two_sided(int(flagged.sum()), 300)
        ours += found.low <= share <= found.high
        naive += plain.low <= share <= plain.high
    assert ours / runs >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / runs)
    assert naive / runs < 0.75


def test_an_interval_by_image_holds_where_images_of_a_piece_differ():
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(60), 5)
    found = [image_share(rng.random(300) < 0.1, names) for _ in range(500)]
    assert np.mean([each.low <= 0.1 <= each.high for each in found]) >= 0.95


def test_with_one_image_a_piece_it_is_the_plain_interval():
    flagged = np.arange(50) < 4
    assert image_share(flagged, range(50)) == two_sided(4, 50)


def test_the_bound_of_detection_holds_summed_over_all_outcomes():
    outcomes = np.arange(31)
    bound = np.array([detection(np.arange(30) < count)[0].at_least for count in outcomes])
    for share in np.linspace(0.01, 0.99, 99):
        assert binom.pmf(outcomes, 30, share)[bound <= share].sum() >= 0.95 - 1e-9


def test_rows_fit_together():
    with pytest.raises(VerdictError, match="bad must be"):
        decisions([True], [True, False])
    with pytest.raises(VerdictError, match="flagged must be"):
        detection([0.7, 0.2])
    with pytest.raises(VerdictError, match="size_classes must be"):
        detection([True], ["a", "b"])
    with pytest.raises(VerdictError, match="pieces must be"):
        image_share([True], ["a", "b"])
    with pytest.raises(VerdictError, match="share must be"):
        pieces_needed(1.0)
