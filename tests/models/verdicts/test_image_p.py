"""The hierarchical p of an image: exact sums of shares, valid for a random image of a new piece."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import betabinom

from models.faults import VerdictError
from models.verdicts.image_p import image_calibration, image_p, image_ranks, images_flagged
from models.verdicts.ranks import flagged, ranks, sorted_calibration


def exact(score: float, scores: np.ndarray, pieces: np.ndarray) -> Fraction:
    shares = [Fraction(int((scores[pieces == one] >= score).sum()), int((pieces == one).sum())) for one in np.unique(pieces)]
    return (1 + sum(shares)) / Fraction(len(shares) + 1)


@pytest.mark.parametrize("largest", [8, 60])
def test_it_is_the_exact_sum_of_shares(largest: int) -> None:
    """Up to 60 images a piece the unit is about 10^25, and int64 would overflow."""
    rng = np.random.default_rng(largest)
    pieces = np.repeat(np.arange(60), np.arange(60) % largest + 1)
    scores = rng.integers(0, 40, len(pieces)).astype(float)
    found = image_calibration(scores, pieces)
    assert (found.above.dtype == object) == (largest == 60)
    new = np.arange(-1, 42)
    total = found.unit * (found.pieces + 1)
    rank = image_ranks(new, found)
    assert [Fraction(int(r), total) for r in rank] == [exact(score, scores, pieces) for score in new]
    assert image_p(rank, found).dtype == np.float64 and image_p(rank, found)[0] == 1
    for text in ("0.29", "0.1", "1/61"):
        assert images_flagged(rank, Fraction(text), found).tolist() == [Fraction(int(r), total) <= Fraction(text) for r in rank]


def test_with_one_image_a_piece_it_is_the_piece_p() -> None:
    rng = np.random.default_rng(2)
    calibration, new = rng.integers(0, 50, 99), rng.integers(0, 60, 200)
    found = image_calibration(calibration, np.arange(99))
    by_piece = ranks(new, sorted_calibration(calibration))
    assert image_ranks(new, found).tolist() == by_piece.tolist()
    assert images_flagged(by_piece, Fraction("0.29"), found).tolist() == flagged(by_piece, Fraction("0.29"), 99).tolist()


def test_the_mean_share_of_flagged_images_keeps_the_rate() -> None:
    """Images of a piece agree, and pieces have 1 to 8 of them."""
    rng, runs, n = np.random.default_rng(3), 1500, 99
    shares = {Fraction(text): np.empty(runs) for text in ("0.01", "0.05", "0.1")}
    for run in range(runs):
        counts = rng.integers(1, 9, n + 20)
        piece = np.repeat(np.arange(n + 20), counts)
        scores = 0.95 * rng.standard_normal(n + 20)[piece] + 0.3 * rng.standard_normal(len(piece))
        old = piece < n
        found = image_calibration(scores[old], piece[old])
        rank = image_ranks(scores[~old], found)
        for rate, share in shares.items():
            each = np.bincount(piece[~old] - n, images_flagged(rank, rate, found)) / counts[n:]
            share[run] = each.mean()
    for rate, share in shares.items():
        error = share.std() / runs**0.5
        assert float(rate) / 4 < share.mean() <= float(rate) + 3.5 * error


def test_ranks_of_images_keep_the_mean_and_not_the_interval() -> None:
    """Shown failing: 5 like images a piece, ranked as if images were exchangeable, at 5 %; pieces keep both."""
    rng, runs, pieces, images = np.random.default_rng(4), 800, 200, 5
    scores = 0.85**0.5 * rng.standard_normal((runs, 2 * pieces, 1)) + 0.15**0.5 * rng.standard_normal(
        (runs, 2 * pieces, images)
    )
    inside = {}
    for name, values in (("images", scores), ("pieces", scores.max(axis=2, keepdims=True))):
        old, new = (half.reshape(runs, -1) for half in (values[:, :pieces], values[:, pieces:]))
        n = old.shape[1]
        j = n // 20
        low, high = betabinom.ppf((0.025, 0.975), n, j, n + 1 - j)
        count = (new > np.sort(old, axis=1)[:, -j, None]).sum(axis=1)
        assert count.mean() / n <= 0.05 + 3.5 * count.std() / n / runs**0.5
        inside[name] = ((low <= count) & (count <= high)).mean()
    assert inside["images"] < 0.85
    assert inside["pieces"] >= 0.95 - 3.5 * (0.95 * 0.05 / runs) ** 0.5


def test_faults() -> None:
    with pytest.raises(VerdictError, match="pieces must be one for each of 1 or more images; got 0 for 0 images"):
        image_calibration([], [])
    with pytest.raises(VerdictError, match="calibration scores must be finite"):
        image_calibration([np.nan], ["a"])
