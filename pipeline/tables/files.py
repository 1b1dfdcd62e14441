"""The active files of a table's version."""

from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.publications import DataFile
from pipeline.tables.faults import retried


@retried
def data_files(table: DeltaTable | None, model: str | None = None) -> list[DataFile]:
    """The files of the version that is loaded, by path, without their statistics. model: only its; None for all."""
    if table is None:
        return []
    partitions = table.metadata().partition_columns
    actions = pa.table(table.get_add_actions(flatten=True))
    values = [actions[f"partition.{column}"].to_pylist() for column in partitions]
    rows = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), *values, strict=True)
    files = [DataFile(unquote(path), size, dict(zip(partitions, of, strict=True))) for path, size, *of in rows]
    return sorted((file for file in files if model in (None, file.partition["model"])), key=lambda file: file.path)


Bounds = tuple[str, str]


class ActiveFile(NamedTuple):
    """A file with what its statistics say of its rows; None where they say nothing.

    first_uri, last_uri: no row has a uri before the first or after the last.  first_run: nor a run_id before this one.
    days, lots: nor a date or a lot outside of these.  last_run: nor a run_id after this one.
    """

    file: DataFile
    first_uri: str | None
    last_uri: str | None
    first_run: str | None
    days: Bounds | None = None
    lots: Bounds | None = None
    last_run: str | None = None

    def may_be_within(self, days: Bounds, lots: Bounds | None) -> bool:
        """Whether it may hold a row of these days and lots, both first and last; lots None for any lot or none."""
        if self.days is not None and not _overlap(self.days, days):
            return False
        return lots is None or self.lots is None or _overlap(self.lots, lots)


@retried
def active_files(table: DeltaTable | None, model: str, periods: Collection[str] | None) -> list[ActiveFile]:
    """The files of a model in the version that is loaded, by path. periods: only those; None for all."""
    if table is None or (periods is not None and not periods):
        return []
    actions = pa.table(table.get_add_actions(flatten=True))

    def column(name: str) -> list[str | None]:
        return actions[name].to_pylist() if name in actions.column_names else [None] * actions.num_rows

    found = []
    for path, size, of, period, uri, last_uri, run, *ends in zip(
        *map(column, ("path", "size_bytes", "partition.model", "partition.period", "min.uri", "max.uri", "min.run_id")),
        *map(column, ("min.date", "max.date", "min.lot", "max.lot", "max.run_id")),
        strict=True,
    ):
        if of == model and (periods is None or period in periods):
            file = DataFile(unquote(str(path)), int(str(size)), {"model": of, "period": str(period)})
            found.append(ActiveFile(file, uri, last_uri, run, _both(*ends[:2]), _both(*ends[2:4]), ends[4]))
    return sorted(found, key=lambda active: active.file.path)


def _both(first: str | None, last: str | None) -> Bounds | None:
    return None if first is None or last is None else (first, last)


def _overlap(mine: Bounds, theirs: Bounds) -> bool:
    return mine[0] <= theirs[1] and theirs[0] <= mine[1]
