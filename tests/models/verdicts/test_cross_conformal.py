"""Cross-conformal ranks against their definition, and the share of flagged good pieces of a fitted Gaussian."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.cross_conformal import folds, guaranteed, most_rank, ranks, sentence


def test_ranks_follow_the_definition_with_ties():
    rng = np.random.default_rng(0)
    held_out, fold, new = rng.integers(0, 9, 23) / 2, np.arange(23) % 4, rng.integers(0, 9, (50, 4)) / 2
    expected = [1 + sum(held_out[i] >= row[fold[i]] for i in range(23)) for row in new]
    assert ranks(held_out, fold, new).tolist() == expected


def test_folds_hold_whole_pieces_and_differ_by_one():
    pieces = [f"piece {i // 3}" for i in range(69)]
    found = folds(pieces, 5, seed=3)
    assert all(len(set(found[3 * i : 3 * i + 3])) == 1 for i in range(23))
    assert sorted(np.bincount(found[::3])) == [4, 4, 5, 5, 5]
    assert folds(pieces, 5, seed=3).tolist() == found.tolist() != folds(pieces, 5, seed=4).tolist()


def closed_form_scores(pieces, fold, count, new):
    """Mahalanobis distances to a Gaussian with a ridge, fitted without each fold."""
    held_out, fresh = np.empty(len(pieces)), np.empty((len(new), count))
    for k in range(count):
        rest = pieces[fold != k]
        precision = np.linalg.inv(np.cov(rest.T) + 0.1 * np.eye(rest.shape[1]))
        held_out[fold == k] = distance(pieces[fold == k] - rest.mean(0), precision)
        fresh[:, k] = distance(new - rest.mean(0), precision)
    return held_out, fresh


def distance(offset, precision):
    return np.einsum("nd,de,ne->n", offset, precision, offset)


@pytest.mark.parametrize(("pieces", "count"), [(20, 5), (40, 10), (23, 4)])
def test_flagged_good_pieces_keep_the_guarantee_and_typically_the_rate(pieces, count):
    rng = np.random.default_rng(1)
    rate, runs = 0.1, 600
    shares = []
    for run in range(runs):
        drawn = rng.standard_t(4, size=(pieces + 50, 6))
        fold = folds(range(pieces), count, seed=run)
        held_out, fresh = closed_form_scores(drawn[:pieces], fold, count, drawn[pieces:])
        shares.append(np.mean(ranks(held_out, fold, fresh) <= most_rank(rate, pieces)))
    error = np.std(shares) / np.sqrt(runs)
    sizes = np.bincount(fold).tolist()
    assert np.mean(shares) <= guaranteed(rate, sizes)
    assert np.mean(shares) <= rate + 3.5 * error
    assert np.mean(shares) > 0.03  # it flags something


def test_the_guarantee_by_hand():
    assert guaranteed(0.05, [4] * 5) == pytest.approx(0.1 + min(2 * (1 - 1 / 5) / (20 / 5 + 1), (1 - 5 / 20) / (5 + 1)))
    assert guaranteed(0.05, [200] * 5) == pytest.approx(0.1 + 2 * (1 - 1 / 5) / (1000 / 5 + 1))
    assert guaranteed(0.05, [1] * 30) == pytest.approx(0.1)  # jackknife+
    assert guaranteed(0.05, [4, 4, 4, 4, 5]) == pytest.approx(0.1 + 2 * 4 / (21 + 5))
    assert guaranteed(0.9, [4] * 5) == 1.0


def test_sentences_say_what_is_impossible():
    assert "5 % is impossible" in sentence(0.05, [6, 6, 6]) and "19 pieces" in sentence(0.05, [6, 6, 6])
    assert "impossible" not in sentence(0.05, [7, 6, 6])


def test_wrong_rows():
    with pytest.raises(VerdictError, match="fold must be"):
        ranks([1.0, 2.0], [0, 0], [[1.0, 2.0]])
    with pytest.raises(VerdictError, match="held_out, fold, new must be"):
        ranks([1.0, 2.0], [0], [[1.0, 2.0]])
    with pytest.raises(VerdictError, match="must be finite"):
        ranks([1.0, np.nan], [0, 1], [[1.0, 2.0]])
    with pytest.raises(VerdictError, match="count must be"):
        folds(["a", "b"], 3)
    with pytest.raises(VerdictError, match="rate must be"):
        most_rank(1.0, 30)
    with pytest.raises(VerdictError, match="sizes must be"):
        guaranteed(0.1, [30])
