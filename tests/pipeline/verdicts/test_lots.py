"""Counts of lots add up over jobs, and lots are decided by them."""

import numpy as np
import pyarrow as pa
import pytest
from judged_images import judge, made, rows

from models.calibration.calibration import Keys
from models.calibration.lot_decision import RankCounts, decide_lot
from models.verdicts.within_lot import q_values as q_of_pieces
from pipeline.verdicts import lots as counting
from pipeline.verdicts.lots import LotCounts, added, decide, image_counts, piece_counts
from pipeline.verdicts.pieces import codes, judge_pieces
from pipeline.verdicts.shown import shown


def counts_of(table, by):
    images = shown(table, by)
    code = codes(images, by)
    judged = judge_pieces(images, code, by)
    return images, code, judged, LotCounts(image_counts(table, images), piece_counts(images, code, judged))


def night(count, seed=0, shift=0.0, **same):
    rng = np.random.default_rng(seed)
    return [{"score": float(shift + rng.normal()), "uri": f"file:///{seed}/{at}"} | same for at in range(count)]


@pytest.fixture(scope="module")
def single():
    return judge(made(pieces=200, keys=Keys(lot="lot")))


def test_counts_of_jobs_add_up_to_the_decision_of_all(single):
    given = night(300) + night(40, 1, 3.0)
    whole = counts_of(rows(*given), single)[3]
    parts = added(counts_of(rows(*part), single)[3] for part in (given[:100], given[100:250], given[250:]))
    (place,) = whole.images["place"].to_pylist()
    assert decide(parts, {place: single}).lots == decide(whole, {place: single}).lots
    lot = decide(whole, {place: single}).lots[place]
    assert (lot.lot, lot.date, lot.planned, lot.unreadable) == ("L1", "2026-01-01", 340, 0)
    images, code, judged, _ = counts_of(rows(*given), single)
    rank, tied = judged.rank, judged.tied
    both, pieces = np.unique(np.stack([rank, tied]), axis=1, return_counts=True)
    expected = decide_lot([(single.kinds[0, 0], RankCounts(both[0], both[1], pieces, int(judged.above.sum())))])
    assert lot.decision == expected and lot.flagged == int((judged.verdict == "flagged").sum())


def test_q_values_are_those_of_the_lots_pieces(single):
    given = night(100, 2) + night(50, 3, 2.0, lot="L2") + night(5, 4, lot=None)
    table = rows(*given)
    images, code, judged, counts = counts_of(table, single)
    lots = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), single))
    columns = (pa.array(column[code]) for column in (judged.group, judged.number, judged.rank))
    found = counting.q_values(lots.q, images.place, *columns).to_pylist()
    for start, end in ((0, 100), (100, 150)):
        expected = q_of_pieces(judged.rank[code[start:end]], 200).tolist()
        assert found[start:end] == pytest.approx(expected)
    assert found[150:] == [None] * 5, "images of no lot have none"
    assert len(lots.lots) == 2


def test_unreadable_images_count_for_the_lot_and_not_as_pieces(single):
    table = rows(*night(95), *({"score": None, "uri": str(at)} for at in range(6)))
    counts = counts_of(table, single)[3]
    (lot,) = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), single)).lots.values()
    assert (lot.planned, lot.unreadable, lot.decision.judged) == (101, 6, 95)
    assert lot.decision.state == "not_judged"
    assert lot.decision.reason == "6 of 101 images could not be read, more than 5 %"
    lenient = judge(single.calibration, max_unreadable=0.1)
    (lot,) = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), lenient)).lots.values()
    assert lot.decision.state == "ok"


def test_incomplete_pieces_do_not_count_for_the_lot():
    by = judge(made(pieces=60, views=("side", "top")))
    table = rows(
        *({"serial": str(at), "camera": view} for at in range(30) for view in ("side", "top")), {"serial": "x", "score": 99.0}
    )
    counts = counts_of(table, by)[3]
    (lot,) = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), by)).lots.values()
    assert (lot.decision.judged, lot.flagged) == (30, 1)


def test_lots_that_cannot_be_judged_say_why(single):
    for by, table, reason in (
        (judge(None), rows({}), "not calibrated"),
        (single, rows({"device": "cuda-bf16"}), "no piece could be judged"),
    ):
        counts = counts_of(table, by)[3]
        (lot,) = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), by)).lots.values()
        assert lot.decision.state == "not_judged" and lot.decision.reason.startswith(reason)
