import pyarrow as pa
import pytest
from fake_run import failed, scored

from pipeline.tables.delta import score_schema
from pipeline.tables.rows import ORDINAL, error_rows, map_rows, region_rows, score_rows
from schemas import commit

SAME = {
    **{"model": "m", "model_digest": "d", "calibration_digest": None, "run_id": "r", "date": "none"},
    **{"unit_id": "u", "device": "cpu", "scored_at": None},
}
SCHEMA = score_schema(["line", "camera"])


def rows(*images):
    table = pa.Table.from_pylist([{"position": i, **image} for i, image in enumerate(images)], commit.SCHEMA)
    return table.append_column(ORDINAL, pa.array(range(len(images)), pa.int64()))


def region(x0):
    return {**scored("a", 1.0)["regions"][0], "x0": x0}


def test_scores_and_errors_part_ways():
    given = rows(scored("a", 1.5), failed("b"), scored("c", 2.5, regions=None, keys=[("line", "9"), ("line", "x")]))
    kept = score_rows(given, SCHEMA, SAME).to_pylist()
    assert [(row["score"], row["line"], row["camera"], row["regions"], row["ordinal"]) for row in kept] == [
        (1.5, "7", None, 1, 0),
        (2.5, "9", None, None, 2),
    ]
    (lost,) = error_rows(given, SAME).to_pylist()
    assert (lost["uri"], lost["byte_offset"], lost["ordinal"]) == ("s3://line/b", 17, 1)


def test_the_count_of_regions_holds_those_left_out_too():
    kept = score_rows(rows(scored("a", 1.0, region_count=300), scored("b", 1.0, regions=[])), SCHEMA, SAME)
    assert kept["regions"].to_pylist() == [300, 0]


def test_commits_of_version_1_have_no_regions():
    given = rows(scored("a", 1.0, regions=None)).drop_columns(["region_count"])
    assert score_rows(given, SCHEMA, SAME)["regions"].to_pylist() == [None]
    assert region_rows(given, SAME).num_rows == 0


def test_commits_of_version_2_have_no_explanations():
    names = ("explanation", "explanation_scale", "explanation_offset", "explanation_method")
    explained = dict(zip(names, (b"12", 0.5, 1.0, "grad_cam"), strict=True))
    (kept,) = map_rows(rows(scored("a", 1.0, **explained)), SAME).to_pylist()
    assert {name: kept[name] for name in names} == explained
    (old,) = map_rows(rows(scored("a", 1.0)).drop_columns(names), SAME).to_pylist()
    assert {name: old[name] for name in names} == dict.fromkeys(names)


def test_regions_are_numbered_within_their_image():
    given = rows(
        scored("a", 1.0, regions=[region(1), region(2), region(3)]),
        scored("b", 1.0, regions=[]),
        failed("c"),
        scored("d", 1.0, regions=None),
        scored("e", 1.0, regions=[region(4)]),
    )
    found = region_rows(given, SAME).to_pylist()
    assert [(row["ordinal"], row["region"], row["x0"]) for row in found] == [(0, 0, 1), (0, 1, 2), (0, 2, 3), (4, 0, 4)]
    assert found[3]["image_id"] == scored("e", 1.0)["image_id"] and found[0]["peak"] == 3.5


@pytest.mark.parametrize("convert", [error_rows, map_rows, region_rows, lambda r, same: score_rows(r, SCHEMA, same)])
def test_nothing_gives_nothing(convert):
    assert convert(rows(), SAME).num_rows == 0
    assert convert(rows(failed("a")), SAME).num_rows in (0, 1)
