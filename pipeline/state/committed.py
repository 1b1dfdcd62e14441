"""Reads a slice's commits back, in the order of its units, and checks that nothing is missing."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state import plan
from pipeline.state.commits import footer_of
from pipeline.state.run_state import RunState
from pipeline.state.state_file import READING, reading
from pipeline.storage.objects import Object
from pipeline.storage.store import Store

READ_AHEAD = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class IncompleteSlice(ValueError):
    """A unit of the slice has no commit, or its commits do not hold all of its images."""


class Commit(NamedTuple):
    """One commit: its unit's number, its footer (schemas.commit.FOOTER) and its rows (schemas.commit.SCHEMA)."""

    number: int
    footer: dict[str, str]
    rows: pa.Table


def read_commits(state: RunState, slice_number: int, first: int, end: int) -> Iterator[Commit]:
    """Every commit of the units first <= number < end, each in one GET, a few read ahead.

    Raises:
        IncompleteSlice: when the first unit is met of which something is missing.
    """
    listed = ((number, entry) for number, _, entry in state.commits(slice_number, first, end))
    store = state.store
    by_number = groupby(_ahead(lambda named: _read(store, *named), listed), key=lambda commit: commit.number)
    for unit in plan.outlines(state, slice_number, first, end):
        number, parts = next(by_number, (None, iter(())))
        rows, after = 0, ""
        for expected, commit in enumerate(parts):
            if number != unit.number or int(commit.footer["part"]) != expected or after == "end":
                break
            rows, after = rows + commit.rows.num_rows, commit.footer["next_offset"]
            yield commit
        if after != "end" or unit.images not in (None, rows):
            raise IncompleteSlice(
                f"work unit {unit.number} of slice {slice_number} must be committed whole before finalize; "
                f"{rows:,} of {unit.images or 'its'} images are. Repeat `flowscore score`"
            )


def _read(store: Store, number: int, entry: Object) -> Commit:
    with reading(entry.key):
        file = pq.ParquetFile(io.BytesIO(store.get(entry.key, entry.etag, entry.size)), **READING)
        rows, footer = file.read(), footer_of(file.metadata.metadata)
        int(footer["part"])
    return Commit(number, footer, rows)


def _ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
