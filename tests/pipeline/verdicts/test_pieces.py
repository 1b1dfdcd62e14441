"""Pieces are put together from images in any order, and what cannot be compared makes its piece not judged."""

import numpy as np
import pytest
from judged_images import judge, made, rows

from models.calibration.calibration import Keys
from models.verdicts.pieces import Images, piece_scores, verdicts
from pipeline.verdicts.pieces import SEVERAL, as_table, codes, judge_pieces
from pipeline.verdicts.shown import shown

TWO = ("side", "top")


def judged(table, by):
    images = shown(table, by)
    code = codes(images, by)
    return code, judge_pieces(images, code, by)


def of_piece(table, by):
    """(verdict, reason) of the first image's piece."""
    code, found = judged(table, by)
    return found.verdict[code[0]], found.reason[code[0]]


@pytest.fixture(scope="module")
def two_views():
    return judge(made(views=TWO))


def test_verdicts_are_those_of_the_statistics(two_views):
    rng = np.random.default_rng(1)
    given = [
        {"serial": str(at), "camera": view, "score": float(rng.normal(0, 2)), "uri": f"file:///in/{at}/{view}"}
        for at in range(80)
        for view in TWO
        if rng.random() > 0.05
    ]
    rng.shuffle(given)
    code, found = judged(rows(*given), two_views)
    calibration = two_views.calibration
    images = Images(
        np.array([row["serial"] for row in given]),
        np.array([row["camera"] for row in given]),
        np.array([row["score"] for row in given], np.float32),
        np.ones(len(given), bool),
    )
    scored = piece_scores(images, calibration.selection.scales, calibration.groups[0].sets)
    expected = verdicts(scored, calibration.groups[0].calibrations(), two_views.rate, "views")
    for row, one in enumerate(given):
        at = scored.piece.tolist().index(one["serial"])
        assert found.verdict[code[row]] == expected.verdict[at]
        assert found.reason[code[row]] == expected.reason[at]
        assert found.rank[code[row]] == expected.rank[at]
    assert {"ok", "flagged", "not_judged"} == set(expected.verdict)


def test_pieces_are_told_apart_by_lot_and_day(two_views):
    top, side = {"camera": "top"}, {"camera": "side"}
    assert of_piece(rows(top, side), two_views) == ("ok", "")
    assert of_piece(rows(top, side | {"lot": "L2"}), two_views) == ("not_judged", "1 of 2 views")
    assert of_piece(rows(top, side | {"date": "2026-01-02"}), two_views)[0] == "not_judged"
    assert of_piece(rows(top | {"lot": None}, side | {"lot": None}), two_views) == ("ok", "")


def test_a_retake_does_not_count(two_views):
    first = [{"camera": "top", "score": 0.0}, {"camera": "side", "score": 0.0, "uri": "file:///in/b"}]
    retake = {"camera": "top", "score": 99.0, "run_id": "tile-000003"}
    code, found = judged(rows(retake, *first), two_views)
    assert found.verdict[code[0]] == "not_judged" and "complete piece has 2" in found.reason[code[0]]
    assert found.rank[code[0]] > 1
    early = retake | {"run_id": "tile-000001"}
    assert of_piece(rows(early, *first), two_views)[0] == "flagged"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        ({"device": "cuda-bf16"}, "scored on cuda-bf16, calibrated on cpu-float32"),
        ({"scoring_version": 4}, "scored by version 4 of the scoring code, calibrated by 5"),
        ({"grid": "32 x 24"}, "a map of 32 x 24 cells, and the calibration is for 32 x 32"),
        ({"grid": None}, "no map size is known"),
        ({"line": "Z"}, "line 'Z' is not in the calibration"),
        ({"line": None}, "the path says no line, so its calibration group is not known"),
        ({"camera": "back"}, "camera 'back' is not in the calibration"),
        ({"camera": None}, "the path says no camera, so its view is not known"),
        ({"score": None}, "not readable"),
    ],
)
def test_what_cannot_be_compared_makes_its_piece_not_judged(two_views, one, reason):
    other = {"camera": "side", "uri": "file:///in/b"}
    first = {"camera": "top"} | one
    verdict, said = of_piece(rows(first, other), two_views)
    assert verdict == "not_judged"
    assert said in (reason, SEVERAL)
    assert said == reason or "line" in one
    bad = of_piece(rows(first, other | {"score": 99.0}), two_views)
    assert bad[0] == ("not_judged" if "line" in one else "flagged"), "what is left of a piece can only be less anomalous"


def test_an_image_whose_piece_is_not_known_is_one_of_its_own(two_views):
    code, found = judged(rows({"serial": None}, {"serial": None}, {}, {"camera": "side"}), two_views)
    assert len(set(code.tolist())) == 3
    assert found.reason[code[0]] == "the path says no serial, so its piece is not known"
    assert found.verdict[code[2]] == "ok"


def test_without_a_calibration_nothing_is_judged():
    assert of_piece(rows({}), judge(None)) == ("not_judged", "not calibrated")


def test_without_a_piece_key_an_image_is_a_piece():
    by = judge(made(keys=Keys(lot="lot")))
    code, found = judged(rows({"score": 99.0}, {"score": 0.0}), by)
    assert found.verdict[code].tolist() == ["flagged", "ok"]


def test_a_rate_that_the_calibration_cannot_keep_judges_nothing():
    by = judge(made(pieces=30), rate="0.01")
    verdict, reason = of_piece(rows({}), by)
    assert verdict == "not_judged" and reason == "calibration too small: 30 pieces, and 0.01 needs 99"


def test_the_table_of_pieces_names_them_by_lot_day_and_piece(two_views):
    table = rows({"camera": "top"}, {"camera": "side"}, {"serial": "2"})
    images = shown(table, two_views)
    code = codes(images, two_views)
    found = as_table(images, code, judge_pieces(images, code, two_views))
    assert found["key"].to_pylist() == [f"{'ab' * 8}\n2026-01-01\n=L1\n{piece}" for piece in (1, 2)]
    assert found["verdict"].to_pylist() == ["ok", "not_judged"]


def test_a_row_that_does_not_say_its_map_size_is_judged_where_a_model_has_one_only():
    """Rows that an earlier version has written."""
    by = judge(made(views=TWO, resize="squash"))
    old = {"grid": None}
    assert of_piece(rows({"camera": "top", **old}, {"camera": "side", **old}), by) == ("ok", "")
    assert of_piece(rows({"camera": "top", "grid": "8 x 8"}, {"camera": "side", **old}), by)[0] == "not_judged"
