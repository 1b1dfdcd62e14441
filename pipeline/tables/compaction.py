"""Merges the small files of a ledger's partitions, and drops maps and regions that were replaced.

A compaction is a publication of its own. It takes files of less than half of FILE_BYTES, the smallest first, so that a row is
rewritten a number of times that grows with the logarithm of its partition.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, DataFile, Publications, Seal
from pipeline.storage.objects import listed
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import open_store
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import arrow_schema, open_table
from pipeline.tables.files import data_files
from pipeline.tables.order import sort_keys
from pipeline.tables.publication import Draft, MapFunction, Opened, publish
from pipeline.tables.writer import FILE_BYTES, PartitionWriter

KEPT_REPLACED = timedelta(days=1)
"""So long a foreign reader may still join maps with a version of `scores` that it has opened before."""

COMPACTED = ("maps", "regions", "errors", "scores", "lots", "runs")
OF_SCORES = ("maps", "regions")


@dataclass(frozen=True)
class MergeJob:
    """Files of one partition that become one sorted file, or a few.

    kept: (image_id, unit_id) of the images whose rows stay; None keeps all.
    """

    output_uri: str
    table: str
    stem: str
    schema: pa.Schema
    files: tuple[DataFile, ...]
    kept: pa.Table | None


def compact(ledger: Ledger, map_fn: MapFunction = map) -> dict[str, tuple[int, int]]:
    """Merge what is small; returns for each table that changed the number of files before and after.

    Args:
        map_fn: as for `publish_slice`.
    """
    done: dict[str, tuple[int, int]] = {}

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        joined = _joined(ledger.output_uri, opened["scores"])
        changes = {}
        for name in COMPACTED:
            table = opened[name]
            if table is None:
                continue
            jobs = list(_jobs(ledger, name, table, joined))
            added = tuple(file for files in map_fn(merge, jobs) for file in files)
            removed = tuple(file for job in jobs for file in job.files)
            if removed:
                changes[name] = Change(added, removed, schema_text(arrow_schema(table)))
        done.clear()
        done.update({name: (len(change.remove), len(change.add)) for name, change in changes.items()})
        return Draft(seal, ledger.model, "compaction", changes) if changes else None

    publish(ledger.output_uri, prepare)
    return done


def groups(files: list[DataFile]) -> Iterator[list[DataFile]]:
    """Files of one partition that are merged into one of at most FILE_BYTES, the smallest first; no group of one."""
    group: list[DataFile] = []
    for file in sorted(files, key=lambda file: (file.size, file.path)):
        if group and sum(each.size for each in group) + file.size > FILE_BYTES:
            if len(group) > 1:
                yield group
            group = []
        if file.size <= FILE_BYTES // 2:
            group.append(file)
    if len(group) > 1:
        yield group


def merge(job: MergeJob) -> list[DataFile]:
    """Write the rows of the job's files in the table's order; memory holds them all, about 1 GiB at most."""
    store = open_store(job.output_uri)
    tables = []
    for file in job.files:
        with open_ranged(store, f"{job.table}/{file.path}") as opened:
            tables.append(pq.ParquetFile(opened).read())
    rows = pa.concat_tables(tables, promote_options="permissive")
    if job.kept is not None:
        rows = _current(rows, job.kept)
    rows = rows.sort_by(sort_keys(job.table))
    with tempfile.TemporaryDirectory(prefix="flowscore-compact-") as folder:
        with PartitionWriter(store, job.table, job.schema, job.files[0].partition, job.stem, Path(folder)) as writer:
            if rows.num_rows:
                writer.write(_with_columns(rows, writer.schema))
        return writer.files


def _jobs(ledger: Ledger, name: str, table: DeltaTable, joined: list[DataFile] | None) -> Iterator[MergeJob]:
    mine = [file for file in data_files(table) if file.partition["model"] == ledger.model]
    schema = arrow_schema(table)
    for partition in sorted({tuple(sorted(file.partition.items())) for file in mine}):
        here = [file for file in mine if tuple(sorted(file.partition.items())) == partition]
        found = list(groups(here))
        if not found:
            continue
        kept = None
        if name in OF_SCORES and joined is not None:
            kept = _images(ledger, [file for file in joined if file.partition == dict(partition)])
        for group in found:
            yield MergeJob(ledger.output_uri, name, ledger.model, schema, tuple(group), kept)


def _joined(output_uri: str, scores: DeltaTable | None) -> list[DataFile] | None:
    """The files of all versions of `scores` that somebody may be reading: those since the newest publication that is
    KEPT_REPLACED old. None without such a publication."""
    before = datetime.now(UTC) - KEPT_REPLACED
    seals = Publications(output_uri).seals_since(before)
    if not seals or datetime.fromisoformat(seals[0].sealed_at) > before:
        return None
    versions = sorted({seal.versions["scores"] for seal in seals if "scores" in seal.versions})
    now = {file.path: file for file in data_files(scores)}
    earlier = {file.path: file for version in versions for file in data_files(open_table(output_uri, "scores", version))}
    store = open_store(output_uri)
    # A file that another program removed long ago may be deleted: then nobody reads that version any more.
    there = [file for path, file in earlier.items() if path not in now and listed(store, f"scores/{path}") is not None]
    return [*now.values(), *there]


def _images(ledger: Ledger, files: list[DataFile]) -> pa.Table:
    """(image_id, unit_id) of all rows of the files of `scores`."""
    store, columns = open_store(ledger.output_uri), ["image_id", "unit_id"]
    tables = [pa.schema([(name, pa.string()) for name in columns]).empty_table()]
    for file in files:
        with open_ranged(store, f"scores/{file.path}") as opened:
            tables.append(pq.ParquetFile(opened).read(columns=columns))
    return pa.concat_tables(tables, promote_options="permissive")


def _current(rows: pa.Table, kept: pa.Table) -> pa.Table:
    """The rows whose image and unit are in `kept`, in their order."""
    joined = pc.binary_join_element_wise(kept["image_id"], kept["unit_id"], "/")
    mine = pc.binary_join_element_wise(rows["image_id"], rows["unit_id"], "/")
    return rows.filter(pc.is_in(mine, joined.combine_chunks()))


def _with_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with every column of the schema, null where a file lacks it."""
    columns = [rows[c.name] if c.name in rows.column_names else pa.nulls(rows.num_rows, c.type) for c in schema]
    return pa.table(columns, names=schema.names)
