"""Reads Parquet files that are sorted by object, one after the other, as one stream of rows in key order."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state.state_file import READING, intact
from pipeline.storage.ahead import ahead
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store

ROWS_AT_ONCE = 1 << 16
"""Row groups are read together up to so many rows: one request of a megabyte or two."""


def outside(first: str, last: str, prefix: str) -> bool:
    """Whether no key from `first` to `last` begins with the prefix."""
    return last < prefix or (first > prefix and not first.startswith(prefix))


class SortedFiles:
    """The rows of some files in order of their column `object`; only forward, each row once.

    At most three pieces of ROWS_AT_ONCE rows (or of one row group, if that is larger) are in memory: the next one is read
    while one is used. Nothing is requested before the first call. Every call may raise DamagedState and the errors of
    `Store.get`.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[str],
        columns: Sequence[str],
        finish: Callable[[pa.Table], pa.Table],
        prefix: str = "",
    ):
        """
        Args:
            keys: of the files; each holds higher objects than the one before.
            columns: what to read, `object` among them.
            finish: makes what is handed out of the columns that were read; keeps the rows.
            prefix: row groups wholly outside of it are left out, where the files have statistics.
        """
        # The generator does not refer to self: without a cycle whoever drops the rows closes it, never its own thread.
        self._pieces = ahead(_read(store, keys, list(columns), finish, prefix), 1)
        self._piece: pa.Table | None = None
        self._last = ""  # object of the last row of the piece
        self._begin = 0  # first row of the piece that was not handed out
        self._over = False

    def buffered_to(self) -> str | None:
        """The object up to which rows are in memory; None at the end."""
        if self._piece is None and not self._over:
            self._piece, self._begin = next(self._pieces, None), 0
            self._over = self._piece is None
            if self._piece is not None:
                self._last = self._piece["object"][-1].as_py()
        return None if self._over else self._last

    def upto(self, last: str) -> list[pa.Table]:
        """The rows not handed out yet whose object is at most `last`, in order; none of the tables is empty."""
        found: list[pa.Table] = []
        while (end := self.buffered_to()) is not None and end <= last:
            assert self._piece is not None
            found.append(self._piece.slice(self._begin))
            self._piece = None
        if self._piece is not None:
            end_row = _rows_upto(self._piece["object"], last, self._begin)
            if end_row > self._begin:
                found.append(self._piece.slice(self._begin, end_row - self._begin))
                self._begin = end_row
        return found


def _read(
    store: Store, keys: Sequence[str], columns: list[str], finish: Callable[[pa.Table], pa.Table], prefix: str
) -> Iterator[pa.Table]:
    """The rows in pieces of one to ROWS_AT_ONCE rows."""
    for key in keys:
        with intact(key), open_ranged(store, key) as opened:
            file = pq.ParquetFile(opened, pre_buffer=True, **READING)
            for groups in _together(file.metadata, prefix):
                piece = file.read_row_groups(groups, columns=columns, use_threads=False)
                if len(piece):
                    yield finish(piece.select(columns))


def _together(footer: pq.FileMetaData, prefix: str) -> Iterator[list[int]]:
    """The row groups that may hold objects with the prefix, in lists that are read together."""
    column = footer.schema.names.index("object")
    groups: list[int] = []
    rows = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        statistics = group.column(column).statistics if prefix else None
        if statistics is not None and statistics.has_min_max and outside(statistics.min, statistics.max, prefix):
            continue
        if groups and rows + group.num_rows > ROWS_AT_ONCE:
            yield groups
            groups, rows = [], 0
        groups.append(number)
        rows += group.num_rows
    if groups:
        yield groups


def _rows_upto(objects: pa.ChunkedArray, last: str, begin: int) -> int:
    """How many of the ascending objects are at most `last`, given that those before `begin` are."""
    end = len(objects)
    while begin < end:
        middle = (begin + end) // 2
        if objects[middle].as_py() <= last:
            begin = middle + 1
        else:
            end = middle
    return begin
