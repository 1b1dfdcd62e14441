"""Reads a slice's commits back, in the order of its units, and checks that nothing is missing."""

import io
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state import slices
from pipeline.state.commits import footer_of
from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import READING, intact
from pipeline.storage.ahead import threads_ahead
from pipeline.storage.objects import Object
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store
from schemas.footer import Footer
from schemas.plan import UnitOutline

READ_AHEAD = 8


class IncompleteSlice(StateError, ValueError):
    """A unit of the slice has no commit, or its commits do not hold all of its images."""


class Commit(NamedTuple):
    """One commit: its unit's number, its footer and its rows, columns of schemas.commit.SCHEMA."""

    number: int
    footer: Footer
    rows: pa.Table


def read_commits(ledger: Ledger, slice_number: int, first: int, end: int, columns: list[str] | None = None) -> Iterator[Commit]:
    """Every commit of the units first <= number < end, each by one GET, a few read ahead.

    Args:
        columns: read only these, by ranges.
    Raises:
        IncompleteSlice: at the first unit of which something is missing.
    """
    listed = ((number, entry) for number, _, entry in ledger.commits(slice_number, first, end))
    store = ledger.store
    by_number = groupby(
        threads_ahead(lambda named: _read(store, *named, columns), listed, READ_AHEAD), key=lambda commit: commit.number
    )
    for unit in slices.outlines(ledger, slice_number, first, end):
        number, parts = next(by_number, (None, iter(())))
        rows, ended = 0, False
        for expected, commit in enumerate(parts):
            if number != unit.number or commit.footer.part != expected or ended:
                break
            rows, ended = rows + commit.rows.num_rows, commit.footer.next_offset is None
            yield commit
        if not ended or unit.images not in (None, rows):
            raise not_whole(slice_number, unit, rows)


def not_whole(slice_number: int, unit: UnitOutline, rows: int) -> IncompleteSlice:
    """The error for a unit of which only so many rows are committed."""
    return IncompleteSlice(
        f"work unit {unit.number} of slice {slice_number} must be committed whole before it is published; "
        f"{rows:,} of {unit.images or 'its'} images are. Repeat `flowscore score`"
    )


def _read(store: Store, number: int, entry: Object, columns: list[str] | None) -> Commit:
    with intact(entry.key), _opened(store, entry, columns) as opened:
        file = pq.ParquetFile(opened, **READING)
        rows, footer = file.read(columns=columns), footer_of(file.metadata.metadata)
    return Commit(number, footer, rows)


def _opened(store: Store, entry: Object, columns: list[str] | None) -> io.IOBase:
    if columns is None:
        return io.BytesIO(store.get(entry.key, entry.etag, entry.size))
    return open_ranged(store, entry.key, entry.etag)
