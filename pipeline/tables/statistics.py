"""The Delta statistics of a Parquet file."""

import json
from datetime import datetime

import pyarrow.parquet as pq


def statistics(metadata: pq.FileMetaData) -> str:
    """Delta statistics (JSON) of a Parquet file: row count; min, max and null count of every column that is not binary.

    If a column with values had no min and max, they would read as `null` beside others that have them, and filters on
    it would find nothing; such a file gets only its row count.
    """
    lowest: dict[str, object] = {}
    highest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name, found = chunk.path_in_schema, chunk.statistics
            if chunk.physical_type == "BYTE_ARRAY" and metadata.schema.column(index).logical_type.type != "STRING":
                continue
            if found is None or not found.has_null_count or not (found.has_min_max or found.null_count == chunk.num_values):
                return json.dumps({"numRecords": metadata.num_rows})
            nulls[name] = nulls.get(name, 0) + found.null_count
            if found.has_min_max:
                lowest[name] = min(lowest.get(name, found.min), found.min)
                highest[name] = max(highest.get(name, found.max), found.max)
    return json.dumps(
        {
            "numRecords": metadata.num_rows,
            "minValues": {name: _bound(value) for name, value in lowest.items()},
            "maxValues": {name: _bound(value) for name, value in highest.items()},
            "nullCount": nulls,
        }
    )


def _bound(value: object) -> object:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value
