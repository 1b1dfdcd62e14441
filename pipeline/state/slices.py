"""Reads the parts of a sealed slice: its work units, and its objects in key order. Finds those of no slice."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state.dated_names import named_at
from pipeline.state.entries import Slice, SlicePart, read_entry, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import READING, intact
from pipeline.storage.ahead import threads_ahead
from pipeline.storage.ranged import open_ranged
from schemas.plan import Unit, UnitOutline, outlines_in, units_in

Row = TypeVar("Row")

THREADS = 16


def units(ledger: Ledger, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[Unit]:
    """The units first <= number < end, a row group at a time."""
    return _rows(ledger, slice_number, units_in, None, first, end)


def outlines(ledger: Ledger, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[UnitOutline]:
    """The same without their contents, which are not read."""
    return _rows(ledger, slice_number, outlines_in, list(UnitOutline._fields), first, end)


def objects(
    ledger: Ledger, slice_number: int, columns: list[str] | None = None, between: tuple[str, str] | None = None
) -> Iterator[pa.Table]:
    """The slice's objects in key order, rows of schemas/inventory.py, a row group at a time.

    Args:
        between: leaves out row groups without an object from the first to the second of these names, both included.
    """
    for part in read_slice(ledger, slice_number).parts:
        yield from objects_of_part(ledger, part, columns, between)


def objects_of_part(
    ledger: Ledger, part: SlicePart, columns: list[str] | None = None, between: tuple[str, str] | None = None
) -> Iterator[pa.Table]:
    """The same of one part."""
    key = ledger.part_key(part.name, "objects")
    with intact(key), open_ranged(ledger.store, key) as file:
        parquet = pq.ParquetFile(file, **READING)
        for group in range(parquet.num_row_groups):
            if between is None or _overlaps(parquet.metadata.row_group(group), *between):
                yield parquet.read_row_group(group, columns=columns)


def unreferenced_parts(ledger: Ledger, before: datetime) -> list[str]:
    """Keys of the parts that no slice names: of plannings that were killed, or lost the number; one request for each entry.

    Args:
        before: parts that were written since then are kept, whose slice may be still to come.
    """
    prefix = f"{ledger.prefix}/parts/"
    keys = [entry.key for entry in ledger.store.list(prefix)]  # before the entries: a slice that is sealed now names its parts
    old = {key: key[len(prefix) :].partition("/")[0] for key in keys if named_at(key[len(prefix) :]) < before}
    if not old:
        return []
    entries = threads_ahead(partial(read_entry, ledger), ledger.entries.after(0), THREADS)
    named = {part.name for entry in entries if isinstance(entry, Slice) for part in entry.parts}
    return [key for key, name in old.items() if name not in named]


def _overlaps(group: pq.RowGroupMetaData, low: str, high: str) -> bool:
    """Whether a row group may hold an object of low <= name <= high; names too long for statistics count as such."""
    found = group.column(0).statistics
    return found is None or not found.has_min_max or (found.min <= high and found.max >= low)


def _rows(
    ledger: Ledger,
    slice_number: int,
    rows_in: Callable[[pa.Table], Iterator[Row]],
    columns: list[str] | None,
    first: int,
    end: int | None,
) -> Iterator[Row]:
    for part in read_slice(ledger, slice_number).parts:
        begin, stop = max(first, part.first), part.first + part.units
        stop = stop if end is None else min(end, stop)
        if begin < stop:
            yield from _of_part(ledger, part, rows_in, columns, begin - part.first, stop - part.first)


def _of_part(
    ledger: Ledger,
    part: SlicePart,
    rows_in: Callable[[pa.Table], Iterator[Row]],
    columns: list[str] | None,
    first: int,
    end: int,
) -> Iterator[Row]:
    """The units of a part whose place in it is first <= place < end; reads only the row groups that hold them."""
    key = ledger.part_key(part.name, "units")
    with intact(key), open_ranged(ledger.store, key) as file:
        parquet, base = pq.ParquetFile(file, **READING), 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            if base < end and base + count > first:
                rows = parquet.read_row_group(group, columns=columns)
                yield from rows_in(rows.slice(max(0, first - base), min(end - base, count) - max(0, first - base)))
            base += count
