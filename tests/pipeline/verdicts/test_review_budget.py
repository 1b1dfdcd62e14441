"""The threshold of a night keeps to the budget, and is worth what the band says."""

import numpy as np
import pytest
from judged_images import judge, made, rows

from models.calibration.calibration import Keys
from models.verdicts.band import band
from pipeline.verdicts.pieces import codes, flag_by_night, judge_pieces
from pipeline.verdicts.review_budget import thresholds, tops, worth
from pipeline.verdicts.shown import shown


def night_of(scores, budget, **same):
    by = judge(made(pieces=200, keys=Keys(lot="lot")), review_budget=budget)
    images = shown(rows(*({"score": float(score), **same} for score in scores)), by)
    judged = judge_pieces(images, codes(images, by), by)
    found = thresholds([tops(judged, images.night, budget)], budget)
    flag_by_night(judged, images.night, found)
    return by, judged, found


@pytest.mark.parametrize("budget", [1, 5, 99, 100, 101])
def test_the_most_anomalous_are_flagged(budget):
    scores = np.random.default_rng(budget).normal(size=100).astype(np.float32)
    _, judged, _ = night_of(scores, budget)
    expected = np.argsort(-scores)[:budget]
    assert np.flatnonzero(judged.verdict == "flagged").tolist() == sorted(expected.tolist())


def test_ties_at_the_threshold_are_not_flagged():
    _, judged, _ = night_of([3, 2, 2, 2, 1], budget=2)
    assert judged.verdict.tolist() == ["flagged", "ok", "ok", "ok", "ok"]


def test_tops_of_jobs_give_the_threshold_of_all():
    scores = np.random.default_rng(0).normal(size=300).astype(np.float32)
    parts = [{"n": np.sort(part)[::-1][:11]} for part in np.split(scores, 3)]
    assert thresholds(parts, 10) == {"n": float(np.sort(scores)[-11])}


def test_what_cannot_be_compared_is_not_flagged():
    _, judged, found = night_of([3, 2], budget=1, device="cuda-bf16")
    assert set(judged.verdict) == {"not_judged"} and found == {"2026-01-01": -np.inf}


def test_the_night_is_worth_what_the_band_says():
    by, _, found = night_of(np.linspace(-3, 3, 500), budget=50)
    said = worth(by, "2026-01-01", found["2026-01-01"])
    assert said.startswith("2026-01-01: 50 pieces to review: ") and " of 200 good pieces score as high" in said
    assert said.endswith("that lots differ is not covered"), "ten lots"
    strict = worth(by, "2026-01-01", 99.0)
    bound = band(200, [by.rate]).bounds[0]
    assert f"0 of 200 good pieces score as high, so that at most {100 * bound:.3g} % of good pieces are flagged" in strict
