"""Turns a commit's rows into rows of the tables. `same` brings what only finalize knows (run, model, time)."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from schemas import errors, maps, regions
from schemas.commit import REGION

ORDINAL = pa.field("ordinal", pa.int64())
"""Running number of an image within its partition and slice, in the order of the plan; not a column of any table."""


def score_rows(rows: pa.Table, schema: pa.Schema, same: dict[str, str | datetime | None]) -> pa.Table:
    """Rows of `scores` and their ordinals, in the order of `rows`.

    Args:
        rows: schemas/commit.py rows with `ordinal`.
        schema: columns of the table; a column in neither the commit nor `same` is a key column.
        same: values of the columns that are equal in every row; what calibration fills is null, the verdict `not_judged`.
    """
    scored = rows.filter(pc.is_valid(rows["score"]))
    assert pc.all(pc.is_finite(scored["score"])).as_py() in (True, None), "a commit holds a score that is not finite"
    filled = {
        **same,
        # Commits of version 1 never computed regions; an unfinished run of that time can still be finalized.
        "regions": scored["region_count"] if "region_count" in scored.column_names else None,
        "verdict": "not_judged",
        **dict.fromkeys(("calibration_group", "rank", "n_calibration", "p_value", "q_value")),
    }
    return _table(scored, schema, filled)


def error_rows(rows: pa.Table, same: dict[str, str | datetime | None]) -> pa.Table:
    """Rows of `errors` and their ordinals."""
    return _table(rows.filter(pc.is_valid(rows["error"])), errors.SCHEMA, same)


def map_rows(rows: pa.Table, same: dict[str, str | datetime | None]) -> pa.Table:
    """Rows of `maps`, one for each image that has a map."""
    return _table(rows.filter(pc.is_valid(rows["map"])), maps.SCHEMA, same)


def region_rows(rows: pa.Table, same: dict[str, str | datetime | None]) -> pa.Table:
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
        found = filled[column.name] if column.name in filled else _own(rows, column.name)
        if found is None or isinstance(found, (str, datetime)):
            found = pa.repeat(pa.scalar(found, column.type), rows.num_rows)
        columns.append(found.cast(column.type))
    return pa.table([*columns, rows[ORDINAL.name]], schema=schema.append(ORDINAL))


def _own(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name in rows.column_names:
        return rows[name]
    return pc.map_lookup(rows["keys"], pa.scalar(name), occurrence="first")
