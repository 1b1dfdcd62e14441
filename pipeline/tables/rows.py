"""Turns a commit's rows into rows of the tables. `same` brings what only the publication knows (run, model, time)."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.verdicts.names import FILLED, NOT_CALIBRATED, NOT_JUDGED, grid
from schemas import errors, maps, regions, scores
from schemas.commit import REGION

Same = dict[str, str | int | datetime | None]
"""Values by column that are equal in every row."""


def score_rows(rows: pa.Table, schema: pa.Schema, same: Same) -> pa.Table:
    """Rows of `scores`, in the order of `rows`.

    Args:
        rows: schemas/commit.py rows.
        schema: columns of the table: those of schemas/scores.py and key columns.
        same: values of the columns that are equal in every row. What verdicts fill is null, and the verdict `not_judged`.
    """
    scored = rows.filter(pc.is_valid(rows["score"]))
    assert pc.all(pc.is_finite(scored["score"])).as_py() in (True, None), "a commit holds a score that is not finite"
    filled = {
        **same,
        **_keys(scored, schema, scores.SCHEMA),
        "regions": scored["region_count"],
        "grid": grid(scored["map_height"], scored["map_width"]),
        **dict.fromkeys(FILLED),
        "verdict": NOT_JUDGED,
        "reason": NOT_CALIBRATED,
    }
    return _table(scored, schema, filled)


def error_rows(rows: pa.Table, schema: pa.Schema, same: Same) -> pa.Table:
    """Rows of `errors`, with schemas/errors.py's columns and key columns."""
    failed = rows.filter(pc.is_valid(rows["error"]))
    return _table(failed, schema, {**same, **_keys(failed, schema, errors.SCHEMA)})


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


def _keys(rows: pa.Table, schema: pa.Schema, fixed: pa.Schema) -> dict[str, pa.Array]:
    """The key columns of rows, by name."""
    names = [name for name in schema.names if name not in fixed.names]
    return {name: pc.map_lookup(rows["keys"], pa.scalar(name), occurrence="first") for name in names}


def _table(rows: pa.Table, schema: pa.Schema, filled: dict) -> pa.Table:
    columns = []
    for column in schema:
        found = filled[column.name] if column.name in filled else rows[column.name]
        if found is None or isinstance(found, (str, int, datetime)):
            found = pa.repeat(pa.scalar(found, column.type), rows.num_rows)
        columns.append(found.cast(column.type))
    return pa.table(columns, schema=schema)
