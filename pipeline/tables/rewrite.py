"""Writes files of `scores` and `errors` anew: without the rows that a slice replaces, and with other verdicts."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.storage.ranged import open_ranged
from pipeline.tables.delta import TABLES
from pipeline.tables.replaced import BUFFER_BYTES, PIECE_ROWS, Replaced
from pipeline.tables.writer import PartitionWriter, widened
from pipeline.verdicts.columns import with_verdicts
from pipeline.verdicts.gathered import Verdicts, columns
from pipeline.verdicts.names import FILLED


@dataclass(frozen=True)
class RewriteJob:
    """One file that may have to be written anew.

    stem: start of the new files' names.  schema: the table's columns.
    replaced: rows that go; None for none.  verdicts: on rows of `scores`; none for other tables.
    only: places whose rows are judged; None for all.
    """

    ledger: Ledger
    stem: str
    table: str
    file: DataFile
    schema: pa.Schema
    replaced: Replaced | None = None
    verdicts: Verdicts | None = None
    only: pa.Array | None = None


class Rewritten(NamedTuple):
    """The files in place of `file`, none if it lost all of its rows. file: None when nothing in it changes, and it stays."""

    table: str
    file: DataFile | None
    added: tuple[DataFile, ...]


def rewrite(job: RewriteJob) -> Rewritten:
    """Write the file again in its own order, if any of its rows goes or has another verdict than is in it."""
    goes = _goes(job)
    if not goes.any() and not (job.verdicts and any(before != after for before, after in _compared(job))):
        return Rewritten(job.table, None, ())
    if goes.all():
        return Rewritten(job.table, job.file, ())
    with (
        open_ranged(job.ledger.store, f"{job.table}/{job.file.path}") as file,
        tempfile.TemporaryDirectory(prefix="flowscore-") as folder,
    ):
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES)
        names = parquet.schema_arrow.names
        own = [column for column in parquet.schema_arrow if column.name not in job.schema.names]
        kept = [column for column in job.schema if job.verdicts or column.name in names]
        done = 0
        args = (job.ledger.store, job.table, pa.schema([*kept, *own]), job.file.partition, job.stem, Path(folder))
        with PartitionWriter(*args) as writer:
            for batch in parquet.iter_batches(TABLES[job.table].ROW_GROUP_ROWS):
                stays = pa.array(~goes[done : done + batch.num_rows])
                done += batch.num_rows
                rows = pa.Table.from_batches([batch]).filter(stays)
                if job.verdicts:
                    rows = with_verdicts(widened(rows, writer.schema), job.verdicts, job.only)
                writer.write(rows)
        return Rewritten(job.table, job.file, tuple(writer.files))


def _goes(job: RewriteJob) -> np.ndarray:
    """Whether each row of the file goes: (rows,) bool."""
    with open_ranged(job.ledger.store, f"{job.table}/{job.file.path}") as file:
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES)
        if job.replaced is None:
            return np.zeros(parquet.metadata.num_rows, bool)
        batches = parquet.iter_batches(PIECE_ROWS, columns=["uri"])
        return np.concatenate([np.zeros(0, bool), *(np.asarray(job.replaced.among(batch.column("uri"))) for batch in batches)])


def _compared(job: RewriteJob) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The verdicts that are in the file and those that belong there, piece by piece."""
    assert job.verdicts is not None
    needed = [name for known in job.verdicts.values() for name in columns(known.judge)]
    names = dict.fromkeys(["model_digest", *needed, *FILLED])
    with open_ranged(job.ledger.store, f"{job.table}/{job.file.path}") as file:
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES)
        there = [name for name in names if name in parquet.schema_arrow.names]
        schema = pa.schema([job.schema.field(name) for name in names if name in job.schema.names])
        for batch in parquet.iter_batches(TABLES[job.table].ROW_GROUP_ROWS, columns=there):
            rows = widened(pa.Table.from_batches([batch]), schema)
            before = rows.select(list(FILLED))
            after = with_verdicts(rows, job.verdicts, job.only).select(list(FILLED))
            yield _plain(before), _plain(after)


def _plain(rows: pa.Table) -> pa.Table:
    """Comparable by `==`, chunks and metadata aside."""
    return rows.replace_schema_metadata(None).combine_chunks()
