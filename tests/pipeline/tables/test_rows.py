from functools import partial

import pyarrow as pa
import pytest
from fake_run import failed, scored

from pipeline.tables.delta import error_schema, score_schema
from pipeline.tables.rows import error_rows, map_rows, region_rows, score_rows
from schemas import commit

SAME = {
    **{"model": "m", "model_digest": "d", "calibration_digest": None, "run_id": "r", "date": "none"},
    **{"period": "none", "scoring_version": 5},
    **{"unit_id": "u", "device": "cpu", "hardware": "c", "scored_at": None},
}
SCHEMA = score_schema(["line", "camera"])
ERRORS = error_schema(["line"])


def rows(*images):
    return pa.Table.from_pylist([{"position": i, **image} for i, image in enumerate(images)], commit.SCHEMA)


def region(x0):
    return {**scored("a", 1.0)["regions"][0], "x0": x0}


def test_scores_and_errors_part_ways():
    given = rows(scored("a", 1.5), failed("b"), scored("c", 2.5, regions=None, keys=[("line", "9"), ("line", "x")]))
    kept = score_rows(given, SCHEMA, SAME).to_pylist()
    assert [(row["score"], row["line"], row["camera"], row["regions"]) for row in kept] == [
        (1.5, "7", None, 1),
        (2.5, "9", None, None),
    ]
    (lost,) = error_rows(given, ERRORS, SAME).to_pylist()
    assert (lost["uri"], lost["byte_offset"], lost["period"]) == ("s3://line/b", 17, "none")
    assert (lost["lot"], lost["line"], lost["model_digest"]) == ("lot1", "7", SAME["model_digest"])


def test_the_count_of_regions_holds_those_left_out_too():
    kept = score_rows(rows(scored("a", 1.0, region_count=300), scored("b", 1.0, regions=[])), SCHEMA, SAME)
    assert kept["regions"].to_pylist() == [300, 0]


def test_a_key_may_have_the_name_of_a_column_of_commits():
    given = rows(scored("a", 1.0, keys=[("key", "left"), ("position", "top")]))
    (kept,) = score_rows(given, score_schema(["key", "position"]), SAME).to_pylist()
    assert (kept["key"], kept["position"]) == ("left", "top")


def test_explanations_go_with_the_map():
    names = ("explanation", "explanation_scale", "explanation_offset", "explanation_method")
    explained = dict(zip(names, (b"12", 0.5, 1.0, "grad_cam"), strict=True))
    (kept,) = map_rows(rows(scored("a", 1.0, **explained)), SAME).to_pylist()
    assert {name: kept[name] for name in names} == explained


def test_regions_are_numbered_within_their_image():
    given = rows(
        scored("a", 1.0, regions=[region(1), region(2), region(3)]),
        scored("b", 1.0, regions=[]),
        failed("c"),
        scored("d", 1.0, regions=None),
        scored("e", 1.0, regions=[region(4)]),
    )
    found = region_rows(given, SAME).to_pylist()
    images = [scored(name, 1.0)["image_id"] for name in "aaae"]
    assert [(row["image_id"], row["region"], row["x0"]) for row in found] == [
        *((images[0], 0, 1), (images[1], 1, 2), (images[2], 2, 3), (images[3], 0, 4))
    ]
    assert found[0]["peak"] == 3.5


@pytest.mark.parametrize(
    "convert", [map_rows, region_rows, partial(score_rows, schema=SCHEMA), partial(error_rows, schema=ERRORS)]
)
def test_nothing_gives_nothing(convert):
    assert convert(rows(), same=SAME).num_rows == 0
    assert convert(rows(failed("a")), same=SAME).num_rows in (0, 1)
