"""The active files of a table's version."""

from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.publications import DataFile
from pipeline.tables.faults import retried


@retried
def data_files(table: DeltaTable | None) -> list[DataFile]:
    """All files of the version that is loaded, by path, without their statistics."""
    if table is None:
        return []
    partitions = table.metadata().partition_columns
    actions = pa.table(table.get_add_actions(flatten=True))
    values = [actions[f"partition.{column}"].to_pylist() for column in partitions]
    rows = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), *values, strict=True)
    files = [DataFile(unquote(path), size, dict(zip(partitions, of, strict=True))) for path, size, *of in rows]
    return sorted(files, key=lambda file: file.path)


class ActiveFile(NamedTuple):
    """A file with what its statistics say of its rows; None where they say nothing.

    first_uri, last_uri: no row has a uri before the first or after the last.  first_run: nor a run_id before this one.
    """

    file: DataFile
    first_uri: str | None
    last_uri: str | None
    first_run: str | None


@retried
def active_files(table: DeltaTable | None, model: str, periods: Collection[str]) -> list[ActiveFile]:
    """The files of a model's periods in the version that is loaded, by path."""
    if table is None or not periods:
        return []
    actions = pa.table(table.get_add_actions(flatten=True))
    bounds = [
        actions[name].to_pylist() if name in actions.column_names else [None] * actions.num_rows
        for name in ("min.uri", "max.uri", "min.run_id")
    ]
    keys = (actions[name].to_pylist() for name in ("path", "size_bytes", "partition.model", "partition.period"))
    found = [
        ActiveFile(DataFile(unquote(path), size, {"model": of, "period": period}), *known)
        for path, size, of, period, *known in zip(*keys, *bounds, strict=True)
        if of == model and period in periods
    ]
    return sorted(found, key=lambda active: active.file.path)
