"""Puts rows in a table's order, as many at a time as fit into memory, and passes them on to files."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from pipeline.state.publications import DataFile
from pipeline.storage.store import Store
from pipeline.tables.delta import TABLES
from pipeline.tables.writer import PartitionWriter

CHUNK_BYTES = 128 << 20
CHUNK_ROWS = 250_000
"""So many rows are sorted in memory at most, and then make one file. Bytes are those before compression."""


def sort_keys(table: str) -> list[tuple[str, str]]:
    """The table's order for `pa.Table.sort_by`."""
    columns = [column.strip().split() for column in TABLES[table].SORT_BY.split(",")]
    return [(name, "descending" if order else "ascending") for name, *order in columns]


def write_sorted(store: Store, table: str, rows: pa.Table, partition: dict[str, str], stem: str) -> list[DataFile]:
    """Write a few rows of one partition as a file, in the table's order; none without rows.

    Args:
        rows: with all columns of the table's SCHEMA.
    """
    if not rows.num_rows:
        return []
    with tempfile.TemporaryDirectory(prefix="flowscore-publish-") as folder:
        with PartitionWriter(store, table, TABLES[table].SCHEMA, partition, stem, Path(folder)) as writer:
            writer.write(rows.sort_by(sort_keys(table)))
    return writer.files


class TableOrder:
    """Sorts rows in the table's order in chunks and passes them to a writer, one file per chunk.

    Args:
        finish: fills columns of a sorted chunk that cost less for many rows at once.
    """

    def __init__(self, writer: PartitionWriter, table: str, finish: Callable[[pa.Table], pa.Table] | None = None) -> None:
        self._writer, self._keys, self._finish = writer, sort_keys(table), finish
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0  # of what is waiting

    def write(self, rows: pa.Table) -> None:
        """Add rows in any order."""
        if rows.num_rows:
            self._waiting.append(rows)
            self._rows += rows.num_rows
            self._bytes += rows.nbytes
        if self._rows >= CHUNK_ROWS or self._bytes >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            rows = pa.concat_tables(self._waiting).sort_by(self._keys)
            self._writer.write(rows if self._finish is None else self._finish(rows))
        self._writer.end_file()
        self._waiting, self._rows, self._bytes = [], 0, 0


class UnitOrder:
    """Sorts rows by unit id in chunks, without copying maps, and passes them to a writer, one file per chunk."""

    def __init__(self, writer: PartitionWriter) -> None:
        self._writer = writer
        self._waiting: list[tuple[str, pa.Table]] = []
        self._bytes = 0

    def write(self, unit_id: str, rows: pa.Table) -> None:
        """Add the rows of one unit, in the order of the unit."""
        if rows.num_rows:
            self._waiting.append((unit_id, rows))
            self._bytes += rows.nbytes
        if self._bytes >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        for _, rows in sorted(self._waiting, key=lambda unit: unit[0]):
            self._writer.write(rows)
        self._writer.end_file()
        self._waiting, self._bytes = [], 0
