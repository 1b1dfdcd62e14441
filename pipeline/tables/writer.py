"""Writes the Parquet files of one table partition and puts them on storage, not yet visible to any reader."""

import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state.publications import DataFile
from pipeline.storage.store import Store
from pipeline.tables.delta import TABLES, partition_path
from pipeline.tables.statistics import statistics

FILE_BYTES = 112 << 20
"""A file is closed by the row group that takes it past this size, which leaves it below about 128 MB."""

BINARY_LEVEL = 6
"""zstd's, for maps and embeddings: a map of 48 x 48 cells takes 0.04 ms and a tenth less space than at level 1."""


def file_schema(schema: pa.Schema, table: str) -> pa.Schema:
    """The columns of a data file: those of the table except the partition columns, which are in its path."""
    return pa.schema([column for column in schema if column.name not in TABLES[table].PARTITION_BY])


def widened(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of the schema and no others, null where they lack one."""
    found = [rows[c.name].cast(c.type) if c.name in rows.column_names else pa.nulls(len(rows), c.type) for c in schema]
    return pa.table(found, names=schema.names)


class PartitionWriter:
    """Takes rows in their final order; a context manager, `files` is complete after it.

    Args:
        table: name of the table.
        schema: the table's columns.
        stem: start of the file names.
        scratch: local directory for the file that is being written.
    """

    def __init__(
        self, store: Store, table: str, schema: pa.Schema, partition: dict[str, str], stem: str, scratch: Path
    ) -> None:
        self.files: list[DataFile] = []
        self.schema = file_schema(schema, table)
        self._store, self._table, self._partition, self._stem, self._scratch = store, table, partition, stem, scratch
        self._row_group_rows = TABLES[table].ROW_GROUP_ROWS
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._path = scratch / "unused"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.end_file()
        elif self._writer is not None:
            self._writer.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows; whole row groups go to the file at once."""
        self._waiting.append(rows.select(self.schema.names).cast(self.schema))
        waiting = sum(chunk.num_rows for chunk in self._waiting)
        if waiting >= self._row_group_rows:
            self._write_groups(waiting - waiting % self._row_group_rows)

    def end_file(self) -> None:
        """Finish the open file, if there is one; later rows go to another."""
        self._write_groups(sum(chunk.num_rows for chunk in self._waiting))
        self._put()

    def _write_groups(self, count: int) -> None:
        rows = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        for start in range(0, count, self._row_group_rows):
            if self._writer is None:
                self._open()
            assert self._writer is not None
            self._writer.write_table(rows.slice(start, min(self._row_group_rows, count - start)))
            if self._path.stat().st_size >= FILE_BYTES:
                self._put()
        self._waiting = [rows.slice(count)] if count < rows.num_rows else []

    def _open(self) -> None:
        binary = [column.name for column in self.schema if pa.types.is_binary(column.type)]
        plain = [name for name in self.schema.names if name not in binary]
        self._path = self._scratch / f"{uuid.uuid4().hex}.parquet"
        self._writer = pq.ParquetWriter(
            self._path,
            self.schema,
            compression="zstd",
            compression_level=dict.fromkeys(binary, BINARY_LEVEL) or None,
            use_dictionary=plain,
            write_statistics=plain,
        )

    def _put(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        stats = statistics(pq.read_metadata(self._path))
        path = f"{partition_path(self._partition)}{self._stem}-{uuid.uuid4().hex}.parquet"
        self._store.put_new_file(f"{self._table}/{path}", self._path)
        self.files.append(DataFile(path, self._path.stat().st_size, self._partition, stats))
        self._path.unlink()
