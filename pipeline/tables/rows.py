"""Turns a commit's rows into rows of the tables. `same` brings what only the publication knows (run, model, time)."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from schemas import errors, maps, regions, scores
from schemas.commit import REGION

Same = dict[str, str | int | datetime | None]
"""Values by column that are equal in every row."""


def score_rows(rows: pa.Table, schema: pa.Schema, same: Same) -> pa.Table:
    """Rows of `scores`, in the order of `rows`.

    Args:
        rows: schemas/commit.py rows.
        schema: columns of the table: those of schemas/scores.py and key columns.
        same: values of the columns that are equal in every row; what calibration fills is null, the verdict `not_judged`.
    """
    scored = rows.filter(pc.is_valid(rows["score"]))
    assert pc.all(pc.is_finite(scored["score"])).as_py() in (True, None), "a commit holds a score that is not finite"
    keys = [name for name in schema.names if name not in scores.SCHEMA.names]
    filled = {
        **same,
        **{name: pc.map_lookup(scored["keys"], pa.scalar(name), occurrence="first") for name in keys},
        "regions": scored["region_count"],
        "verdict": "not_judged",
        **dict.fromkeys(("calibration_group", "rank", "n_calibration", "p_value", "q_value")),
    }
    return _table(scored, schema, filled)


def error_rows(rows: pa.Table, same: Same) -> pa.Table:
    """Rows of `errors`."""
    return _table(rows.filter(pc.is_valid(rows["error"])), errors.SCHEMA, same)


def map_rows(rows: pa.Table, same: Same) -> pa.Table:
    """Rows of `maps`, one for each image that has a map."""
    return _table(rows.filter(pc.is_valid(rows["map"])), maps.SCHEMA, same)


def region_rows(rows: pa.Table, same: Same) -> pa.Table:
    """Rows of `regions`, numbered from 0 within each image in the order of the commit."""
    found = rows.filter(pc.greater(pc.fill_null(pc.list_value_length(rows["regions"]), 0), 0)).combine_chunks()
    counts = pc.list_value_length(found["regions"]).to_pylist()
    parents = found.take(pc.list_parent_indices(found["regions"]))
    flat = pc.list_flatten(found["regions"])
    columns = {REGION.field(i).name: pc.struct_field(flat, REGION.field(i).name) for i in range(REGION.num_fields)}
    numbers = pa.array([number for count in counts for number in range(count)], pa.int32())
    return _table(parents, regions.SCHEMA, {**same, **columns, "region": numbers})


def _table(rows: pa.Table, schema: pa.Schema, filled: dict) -> pa.Table:
    columns = []
    for column in schema:
        found = filled[column.name] if column.name in filled else rows[column.name]
        if found is None or isinstance(found, (str, int, datetime)):
            found = pa.repeat(pa.scalar(found, column.type), rows.num_rows)
        columns.append(found.cast(column.type))
    return pa.table(columns, schema=schema)
