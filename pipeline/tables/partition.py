"""Writes one table partition of a plan slice: merges the commits' rows with earlier rows into new files.

Every image of the slice replaces earlier rows of the same image, and earlier rows of the same object: images that a changed
shard no longer holds disappear. Nothing here is visible to readers; finalize commits the files.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.input.archives import UNSUPPORTED
from pipeline.state.committed import Commit, read_commits
from pipeline.state.run_state import RunState
from pipeline.tables import sql
from pipeline.tables.address import duckdb_address
from pipeline.tables.delta import TABLES, DataFile
from pipeline.tables.rows import ORDINAL, error_rows, map_rows, region_rows, score_rows
from pipeline.tables.writer import PartitionWriter, RowSpool, UnitOrder, file_schema
from schemas.footer import StageSeconds

SPOOLED = ("scores", "errors")
"""Tables that are sorted as a whole before they are written; maps and regions are written as the commits come."""


@dataclass(frozen=True)
class PartitionJob:
    """What to write of one partition; plain values that can be sent to a Ray task.

    units: the slice's units of this partition as ranges of unit numbers (first, end).
    tables: the tables to write.  score_schema: columns of the scores table.
    same: values of the columns that are equal in every row of the slice.
    existing: the partition's current files by table; files of scores and errors are always given.
    """

    state: RunState
    slice: int
    date: str
    units: tuple[tuple[int, int], ...]
    tables: tuple[str, ...]
    score_schema: pa.Schema
    same: dict[str, str | datetime | None]
    existing: dict[str, list[DataFile]]
    memory_mb: int = 1024

    def schema(self, table: str) -> pa.Schema:
        return self.score_schema if table == "scores" else TABLES[table].SCHEMA


class PartitionCounts(NamedTuple):
    """Images of a slice in a partition (duplicates are also counted among the others), members of its shards that were ignored,
    and the encoded bytes fetched."""

    scored: int = 0
    quarantined: int = 0
    duplicates: int = 0
    ignored: int = 0
    bytes_read: int = 0

    def plus(self, other: "PartitionCounts") -> "PartitionCounts":
        return PartitionCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class PartitionFiles:
    """Files to add to and remove from each table, computed from `existing`.

    stage_seconds: added up over all workers.  archives: keys of archives that are not read.
    """

    date: str
    added: dict[str, list[DataFile]]
    removed: dict[str, list[DataFile]]
    existing: dict[str, list[DataFile]]
    counts: PartitionCounts
    stage_seconds: StageSeconds
    archives: tuple[str, ...] = ()


def write_partition(job: PartitionJob) -> PartitionFiles:
    """Write the files of `job.tables` for one partition.

    Raises:
        IncompleteSlice: not every unit is committed whole.
    """
    with tempfile.TemporaryDirectory(prefix="flowscore-finalize-") as folder:
        scratch = Path(folder)
        archives: list[str] = []
        added, counts, stage_seconds = _read(job, scratch, skip=np.empty(0, np.int64), archives=archives)
        with sql.connected(job.state.output_uri, scratch / "spill", job.memory_mb) as connection:
            duplicates = _duplicates(connection, scratch)
            if len(duplicates):
                discard(job.state, added)
                added, _, _ = _read(job, scratch, skip=duplicates, archives=[])
            _find_replaced(connection, job)
            removed: dict[str, list[DataFile]] = {}
            for table in job.tables:
                merge = _merge if table in SPOOLED else _prune
                written, removed[table] = merge(connection, job, table, scratch)
                added[table] = added.get(table, []) + written
        counts = counts._replace(duplicates=len(duplicates))
        return PartitionFiles(job.date, added, removed, job.existing, counts, stage_seconds, tuple(archives))


def discard(state: RunState, files: dict[str, list[DataFile]]) -> None:
    """Delete files that no table holds."""
    for table, written in files.items():
        for file in written:
            state.store.delete(f"{table}/{file.path}")


def _read(
    job: PartitionJob, scratch: Path, skip: np.ndarray, archives: list[str]
) -> tuple[dict[str, list[DataFile]], PartitionCounts, StageSeconds]:
    """Read the commits once: write maps and regions to files, and rows of scores and errors to `scratch`.

    Args:
        skip: ordinals of rows to leave out, (n,) int64.
        archives: takes the keys of archives that were not read.
    """
    counts, stage_seconds = PartitionCounts(), StageSeconds()
    writers = {table: _writer(job, table, scratch) for table in ("maps", "regions") if table in job.tables}
    with ExitStack() as stack:
        ordered = {table: UnitOrder(stack.enter_context(writer)) for table, writer in writers.items()}
        spools = {
            table: stack.enter_context(RowSpool(_spool(scratch, table), job.schema(table).append(ORDINAL))) for table in SPOOLED
        }
        read = 0
        for first, end in job.units:
            for commit in read_commits(job.state, job.slice, first, end):
                rows = commit.rows.append_column(ORDINAL, pa.array(range(read, read + commit.rows.num_rows), pa.int64()))
                read += rows.num_rows
                counts, stage_seconds = counts.plus(_counts(commit)), stage_seconds.plus(commit.footer.seconds)
                archives += rows.filter(pc.equal(rows["error"], UNSUPPORTED))["key"].to_pylist()
                if len(skip):
                    rows = rows.filter(pa.array(~np.isin(rows[ORDINAL.name].to_numpy(), skip)))
                same = {**job.same, "date": job.date, "unit_id": commit.footer.unit_id, "device": commit.footer.device}
                spools["scores"].write(score_rows(rows, job.score_schema, same))
                spools["errors"].write(error_rows(rows, same))
                for table, convert in (("maps", map_rows), ("regions", region_rows)):
                    if table in ordered:
                        ordered[table].write(commit.footer.unit_id, convert(rows, same))
        for order in ordered.values():
            order.flush()
    return {table: writer.files for table, writer in writers.items()}, counts, stage_seconds


def _counts(commit: Commit) -> PartitionCounts:
    failed = commit.rows.num_rows - commit.rows["error"].null_count
    footer = commit.footer
    return PartitionCounts(commit.rows.num_rows - failed, failed, ignored=footer.ignored, bytes_read=footer.bytes_read)


def _duplicates(connection: duckdb.DuckDBPyConnection, scratch: Path) -> np.ndarray:
    """Ordinals of rows to drop, as another row of the slice has their image_id: a score wins, then the first in the plan."""
    connection.execute(
        "create view spooled as "
        f"select ordinal, image_id, uri, true as scored from read_parquet({sql.literal(str(_spool(scratch, 'scores')))}) "
        f"union all select ordinal, image_id, uri, false from read_parquet({sql.literal(str(_spool(scratch, 'errors')))})"
    )
    ((rows, images),) = connection.sql("select count(*), count(distinct image_id) from spooled").fetchall()
    if rows == images:
        return np.empty(0, np.int64)
    found = connection.sql(
        "select ordinal from spooled "
        "qualify row_number() over (partition by image_id order by scored desc, ordinal) > 1 order by ordinal"
    )
    return found.to_arrow_table()["ordinal"].to_numpy()


def _find_replaced(connection: duckdb.DuckDBPyConnection, job: PartitionJob) -> None:
    """Create `replaced`: ids of the slice's images, and of earlier rows that came from the same objects."""
    earlier = [uri for table in SPOOLED for uri in _uris(job, table, job.existing[table])]
    same_object = (
        f" union select image_id from read_parquet({sql.file_list(earlier)}, hive_partitioning = false, "
        "union_by_name = true) where uri in (select uri from spooled)"
        if earlier
        else ""
    )
    connection.execute(f"create temp table replaced as select image_id from spooled{same_object}")


def _merge(
    connection: duckdb.DuckDBPyConnection, job: PartitionJob, table: str, scratch: Path
) -> tuple[list[DataFile], list[DataFile]]:
    """Write the partition's rows, spooled and kept, to files in the table's order; all its earlier files go."""
    existing = job.existing[table]
    fresh = pq.read_metadata(_spool(scratch, table)).num_rows
    if not fresh and not _holding_replaced(connection, job, table):
        return [], []
    files = sql.file_list([_spool(scratch, table), *_uris(job, table, existing)])
    rows = (
        f"select {_columns(job, table)} from read_parquet({files}, hive_partitioning = false, union_by_name = true) "
        f"where ordinal is not null or image_id not in (select image_id from replaced) order by {TABLES[table].SORT_BY}"
    )
    return _write(connection, job, table, scratch, [rows]), existing


def _prune(
    connection: duckdb.DuckDBPyConnection, job: PartitionJob, table: str, scratch: Path
) -> tuple[list[DataFile], list[DataFile]]:
    """Write the earlier files that hold a replaced image again without it, in their own order."""
    holding = _holding_replaced(connection, job, table)
    empty = scratch / f"{table}-empty.parquet"
    pq.write_table(file_schema(job.schema(table), table).empty_table(), empty)
    queries = [
        f"select {_columns(job, table)} from read_parquet({sql.file_list([empty, uri])}, hive_partitioning = false, "
        "union_by_name = true) where image_id not in (select image_id from replaced)"
        for uri in _uris(job, table, holding)
    ]
    return _write(connection, job, table, scratch, queries), holding


def _holding_replaced(connection: duckdb.DuckDBPyConnection, job: PartitionJob, table: str) -> list[DataFile]:
    files = dict(zip(_uris(job, table, job.existing[table]), job.existing[table], strict=True))
    if not files:
        return []
    found = connection.sql(
        f"select distinct filename from read_parquet({sql.file_list(files)}, hive_partitioning = false, "
        "union_by_name = true, filename = true) where image_id in (select image_id from replaced)"
    ).fetchall()
    return [files[uri] for (uri,) in sorted(found)]


def _write(
    connection: duckdb.DuckDBPyConnection, job: PartitionJob, table: str, scratch: Path, queries: list[str]
) -> list[DataFile]:
    with _writer(job, table, scratch) as writer:
        for query in queries:
            for batch in connection.sql(query).to_arrow_reader(TABLES[table].ROW_GROUP_ROWS):
                writer.write(pa.Table.from_batches([batch]))
            writer.end_file()
    return writer.files


def _writer(job: PartitionJob, table: str, scratch: Path) -> PartitionWriter:
    partition = {"model": str(job.same["model"]), "date": job.date}
    stem = f"{job.state.run_id}-{job.slice:06d}"
    return PartitionWriter(job.state.store, table, job.schema(table), partition, stem, scratch)


def _columns(job: PartitionJob, table: str) -> str:
    return ", ".join(sql.name(column) for column in file_schema(job.schema(table), table).names)


def _uris(job: PartitionJob, table: str, files: list[DataFile]) -> list[str]:
    base = duckdb_address(job.state.output_uri, table)
    return [f"{base}/{file.path}" for file in files]


def _spool(scratch: Path, table: str) -> Path:
    return scratch / f"{table}.parquet"
