"""The columns of scores that verdicts fill."""

import numpy as np
import pyarrow as pa
import pytest
from judged_images import DIGEST, judge, made, rows

from models.calibration.calibration import Keys
from models.verdicts.image_p import image_p, image_ranks
from pipeline.verdicts.columns import with_verdicts
from pipeline.verdicts.gathered import gather, part_of
from pipeline.verdicts.names import FILLED
from pipeline.verdicts.shown import places
from schemas import scores


def scored(by, *given):
    """Rows of `scores` with the verdicts that gathering all of them gives."""
    table = blank(rows(*given))
    known = gather([part_of(table, by)], by).known[0]
    return with_verdicts(table, {DIGEST: known})


def blank(table):
    table = table.append_column("model_digest", pa.repeat(DIGEST, table.num_rows))
    for name in FILLED:
        kind = scores.SCHEMA.field(name).type
        old = pa.repeat(pa.scalar("not_judged"), table.num_rows) if name == "verdict" else pa.nulls(table.num_rows, kind)
        table = table.append_column(name, old)
    return table


@pytest.fixture(scope="module")
def two_views():
    return judge(made(views=("side", "top")))


def test_a_piece_says_the_same_on_all_of_its_images(two_views):
    found = scored(two_views, {"camera": "top", "score": 9.0}, {"camera": "side", "score": 0.5}).to_pylist()
    same = (
        "calibration_digest",
        "calibration_group",
        "piece",
        "rank",
        "n_calibration",
        "piece_p",
        "q_value",
        "verdict",
        "reason",
    )
    assert [found[0][name] for name in same] == [found[1][name] for name in same]
    assert (found[0]["verdict"], found[0]["reason"], found[0]["piece"], found[0]["rank"]) == ("flagged", None, "1", 1)
    assert [row["view"] for row in found] == ["top", "side"]
    assert found[0]["piece_p"] == found[0]["q_value"] == 1 / 61
    assert found[0]["calibration_group"] in ("all", "line=A")


def test_an_images_own_p_is_that_of_its_view(two_views):
    given = [
        {"camera": view, "score": score, "serial": str(at)}
        for at, score in enumerate((-1.0, 0.0, 1.0))
        for view in ("side", "top")
    ]
    found = scored(two_views, *given)
    calibration = two_views.calibration
    for view in ("side", "top"):
        mine = [row for row in found.to_pylist() if row["view"] == view]
        known = calibration.images_of(calibration.groups[-1], view)
        expected = image_p(image_ranks(np.array([row["score"] for row in mine], np.float32), known), known)
        assert [row["p_value"] for row in mine] == expected.tolist()


def test_what_cannot_be_compared_has_no_numbers(two_views):
    (row,) = scored(two_views, {"device": "cuda-bf16"}).to_pylist()
    assert [row[name] for name in ("rank", "p_value", "piece_p", "q_value")] == [None] * 4
    assert (row["verdict"], row["reason"]) == ("not_judged", "scored on cuda-bf16, calibrated on cpu-float32")
    assert row["calibration_digest"] == "c" * 64


def test_an_image_of_an_unknown_piece_has_its_own_reason(two_views):
    found = scored(two_views, {"serial": None}, {"serial": None, "device": "cuda-bf16", "uri": "file:///b"}).to_pylist()
    assert {row["reason"] for row in found} == {"the path says no serial, so its piece is not known"}
    assert [row["piece"] for row in found] == [None, None]


def test_where_an_image_is_a_piece_it_has_no_name():
    by = judge(made(pieces=100, keys=Keys(lot="lot")))
    found = scored(by, {"score": 0.0}, {"score": 9.0}).to_pylist()
    assert [(row["piece"], row["view"], row["verdict"]) for row in found] == [(None, None, "ok"), (None, None, "flagged")]
    assert [row["p_value"] for row in found] == [row["piece_p"] for row in found]


def test_rows_of_other_places_and_models_stay(two_views):
    table = blank(rows({"camera": "top"}, {"camera": "side"}, {"camera": "top", "lot": "L2"}))
    known = gather([part_of(table, two_views)], two_views).known[0]
    only = places(table["lot"], table["date"], DIGEST).slice(0, 1)
    found = with_verdicts(table, {DIGEST: known}, only)
    assert found["verdict"].to_pylist() == ["ok", "ok", "not_judged"]
    assert found["reason"].to_pylist() == [None] * 3 and found["calibration_digest"].to_pylist()[2] is None
    other = with_verdicts(table, {"e" * 64: known})
    assert other.equals(table)
