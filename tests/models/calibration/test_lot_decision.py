"""Verdicts on lots are those of the tests that they are made of."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from models.calibration.example import calibration
from models.calibration.lot_decision import Kind, RankCounts, decide_lot, kind_of, q_by_rank
from models.faults import VerdictError
from models.verdicts.lot_test import count_flagged, defects_at_least, hold_limit, lot_p
from models.verdicts.ranks import ranks
from models.verdicts.within_lot import q_values

RATE = Fraction("0.05")


def counts_of(scores, kind):
    rank = ranks(scores, kind.scores)
    tied = np.searchsorted(kind.scores, scores, side="right") - np.searchsorted(kind.scores, scores, side="left")
    both, pieces = np.unique(np.stack([rank, tied]), axis=1, return_counts=True)
    above = 0 if kind.threshold is None else int((np.asarray(scores) > kind.threshold).sum())
    return RankCounts(both[0], both[1], pieces, above)


def kind_with(rng, n=200):
    return Kind(np.sort(rng.normal(size=n).round(1).astype(np.float32)), rank=10, basis="pieces")


@pytest.mark.parametrize("seed", range(20))
def test_figures_are_those_of_the_pieces(seed):
    rng = np.random.default_rng(seed)
    kind = kind_with(rng)
    scores = np.concatenate([rng.normal(size=300), rng.normal(3, 1, size=seed)]).round(seed % 3).astype(np.float32)
    found = decide_lot([(kind, counts_of(scores, kind))])
    flagged = count_flagged(scores, kind.scores, 10)
    assert found.lot_p == lot_p(flagged, len(scores), 10, 200)
    assert found.hold_limit == hold_limit(len(scores), 10, 200)
    assert (found.state == "hold") == (flagged >= found.hold_limit)
    assert found.defects_at_least == defects_at_least(flagged, len(scores), 10, 200)
    assert found.reason.startswith(f"{flagged} of {len(scores)} pieces flagged")


@pytest.mark.parametrize("seed", range(10))
def test_shift_is_the_mann_whitney_test_of_the_scores(seed):
    rng = np.random.default_rng(seed)
    kind = kind_with(rng)
    scores = (rng.normal(0.1 * seed, 1, size=100) + 1e-3).astype(np.float32)  # no ties within the lot
    found = decide_lot([(kind, counts_of(scores, kind))])
    assert found.shift_p == pytest.approx(mannwhitneyu(scores, kind.scores, alternative="two-sided").pvalue)


def test_a_lot_that_lies_elsewhere_is_watched_and_one_that_differs_a_little_is_not():
    rng = np.random.default_rng(0)
    kind = Kind(np.sort(rng.normal(size=400)).astype(np.float32), 20, "pieces")
    lower = decide_lot([(kind, counts_of(rng.normal(-1, 1, size=1000).astype(np.float32), kind))])
    near = decide_lot([(kind, counts_of(rng.normal(-0.25, 1, size=5000).astype(np.float32), kind))])
    assert lower.state == "watch" and "elsewhere" in lower.reason
    assert near.shift_p < 0.01 and near.state == "ok"


def test_kinds_are_tested_apart_at_their_share_of_the_level():
    rng = np.random.default_rng(1)
    kinds = [kind_with(rng), kind_with(rng, 100)]
    good, bad = rng.normal(size=200).astype(np.float32), rng.normal(3, 1, size=200).astype(np.float32)
    both = decide_lot([(kinds[0], counts_of(good, kinds[0])), (kinds[1], counts_of(bad, kinds[1]))])
    alone = decide_lot([(kinds[1], counts_of(bad, kinds[1]))])
    assert both.state == "hold" and both.hold_limit is None and both.judged == 400
    assert both.lot_p == pytest.approx(min(1.0, 2 * alone.lot_p))


def test_a_calibration_that_is_too_small_for_the_lot_does_not_judge_it():
    kind = kind_with(np.random.default_rng(2))
    scores = np.zeros(1000, np.float32)
    assert decide_lot([(kind, counts_of(scores, kind))], most_needed=50).state != "not_judged"
    found = decide_lot([(kind, counts_of(scores, kind))], most_needed=49)
    assert found.state == "not_judged" and "200 pieces, and a lot of 1,000 needs 204" in found.reason


def test_a_lot_without_judged_pieces_is_refused():
    with pytest.raises(VerdictError):
        decide_lot([])


def test_q_of_a_rank_is_that_of_its_pieces():
    rank = np.random.default_rng(3).integers(1, 100, size=500)
    ranked, pieces = np.unique(rank, return_counts=True)
    shuffled = np.random.default_rng(4).permutation(len(ranked))
    found = q_by_rank(RankCounts(ranked[shuffled], np.zeros(len(ranked), int), pieces[shuffled]), n=99)
    by_rank = dict(zip(ranked[shuffled].tolist(), found.tolist(), strict=True))
    assert [by_rank[one] for one in rank.tolist()] == q_values(rank, 99).tolist(), "to the last bit"


def test_known_good_lots_are_counted_above_the_threshold_of_the_selection():
    made = calibration(pieces=400)
    kind = kind_of(made, made.groups[0], 0, RATE)
    assert kind.basis == "lots_model" and kind.rank == 20
    assert kind.threshold == np.sort(made.selection.score)[-2]
    assert int(kind.known.flagged.sum()) == int((kind.scores > kind.threshold).sum())
    assert kind.known.judged.tolist() == [40] * 10
    rng = np.random.default_rng(5)
    good = counts_of(rng.normal(scale=1.4, size=200).astype(np.float32), kind)
    bad = counts_of(rng.normal(3, 1.4, size=200).astype(np.float32), kind)
    assert decide_lot([(kind, good)]).state == "ok" and decide_lot([(kind, bad)]).state == "hold"
    assert "lot effects are normal" in decide_lot([(kind, bad)]).reason


def test_pieces_are_too_few_for_a_rate():
    made = calibration(pieces=60)
    assert kind_of(made, made.groups[0], 0, Fraction("0.01")) is None
