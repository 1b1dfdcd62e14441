"""A Parquet file of images, parsed in a process without rights (pipeline/input/parquet/child.py)."""

import atexit
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.input.config import SourceConfig
from pipeline.input.parquet.exchange import Cells, Open, Opened, Rows
from pipeline.input.parquet.parser import TIMEOUT_S, Parser, Unparsable
from pipeline.input.parquet_columns import NoSuchColumn
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import ReadStore

PARSE = "pipeline.input.parquet.child:open_file"
BUFFER_BYTES = 16 << 20  # read at once
MAX_RATIO = 1 << 20  # of decompressed to stored bytes: more than any writer reaches
KILLED_TRIES = 3  # SIGKILL comes from outside, mostly when memory runs out: try again before blaming rows
ID_ROWS = 8192

_lock = threading.Lock()
_idle: list[Parser] = []


class Group(NamedTuple):
    """A row group: rows, and their bytes decompressed."""

    rows: int
    size: int


class Cell(NamedTuple):
    """A row. content: None for a null cell, and for one above `max_member_bytes`.  size: in bytes, None for a null cell."""

    content: bytes | None
    size: int | None
    id: str | None


class ParquetShard:
    """The open file; a context manager. Its process goes back to those that wait for another file.

    rows, groups: what the footer says, checked against the size of the file.
    """

    def __init__(self, store: ReadStore, key: str, etag: str | None, config: SourceConfig, parse: str | None = None):
        """Raises Unparsable, NoSuchColumn, and the errors of Store.get. `parse` (`module:function`) is for tests."""
        self._config, self._parse = config, parse or PARSE
        self._parser: Parser | None = None
        self._file = open_ranged(store, key, etag)
        columns = config.image_column, config.id_column
        self._open = Open(key, self._file.size, *columns, BUFFER_BYTES, config.max_member_bytes, TIMEOUT_S)
        try:
            footer = self._opened()
        except BaseException:
            self.close()
            raise
        self.groups = [Group(*group) for group in footer.groups]
        rows, sizes = [group.rows for group in self.groups], [group.size for group in self.groups]
        wrong = ""
        if footer.rows != sum(rows) or min(rows, default=0) < 0 or footer.rows > self._file.size:
            wrong = f"{footer.rows} rows, in groups of {rows[:8]}"  # every lost row becomes a row of errors
        elif not all(0 <= size <= self._file.size * MAX_RATIO for size in sizes):
            wrong = f"row groups of {sizes[:8]} bytes"
        if wrong:
            self.close()
            message = f"the Parquet file cannot be read: the footer says {wrong}, in {self._file.size} bytes"
            raise Unparsable("corrupt_shard", message)
        self.rows = footer.rows

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def bytes_read(self) -> int:
        return self._file.bytes_read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._parser is not None and self._parser.usable():
            self._parser.close_file()
            with _lock:
                _idle.append(self._parser)
        self._parser = None

    def cells(self, group: int, skip: int, batch_rows: int) -> Iterator[Cell]:
        """The rows of a group from row `skip` of it on, parsed so many at a time; fewer than the footer says if it lies.

        Rows that cannot be parsed together are parsed one by one, unless the file is damaged: a cell close to the damage may
        parse and be damaged too. Raises Unparsable at the first that cannot be parsed: no later row of the group can be
        reached then.
        """
        for answer, content in self._answers(group, skip, batch_rows, True):
            start = 0
            for row_id, size in zip(answer.ids, answer.sizes, strict=True):
                if size is None or size > self._config.max_member_bytes:
                    yield Cell(None, size, row_id)
                    continue
                yield Cell(bytes(content[start : start + size]), size, row_id)
                start += size

    def ids(self, group: int) -> Iterator[str | None]:
        """The ids of a group's rows, from the id column alone; None for null. Raises Unparsable at the first that cannot be
        parsed alone, so it gives at least the rows that `cells` gives."""
        for answer, _ in self._answers(group, 0, ID_ROWS, False):
            yield from answer.ids

    def _answers(self, group: int, skip: int, batch_rows: int, images: bool) -> Iterator[tuple[Cells, memoryview]]:
        killed, rows = 0, self.groups[group].rows
        while skip < rows:
            try:
                answer, content = self._asked(Rows(group, skip, batch_rows, images))
            except Unparsable as lost:
                killed = killed + 1 if lost.by_kill else 0
                if killed in (0, KILLED_TRIES):
                    if batch_rows == 1 or (images and lost.error == "corrupt_shard"):
                        raise
                    batch_rows, killed = 1, 0
                continue
            killed = 0
            if not answer.ids:
                return
            if len(answer.ids) > rows - skip:
                raise Unparsable("corrupt_shard", "the Parquet file holds more rows than its footer says")
            yield answer, content
            skip += len(answer.ids)

    def _asked(self, request: Rows) -> tuple[Cells, memoryview]:
        if self._parser is None or not self._parser.usable():
            self._opened()
        assert self._parser is not None
        answer, content = self._parser.ask(request, self._file, self._config.max_member_bytes)
        assert isinstance(answer, Cells)
        return answer, content

    def _opened(self) -> Opened:
        for left in reversed(range(KILLED_TRIES)):
            self._parser = _parser(self._parse, self._config.max_parse_bytes)
            try:
                footer, _ = self._parser.ask(self._open, self._file, 0)
            except Unparsable as lost:
                if lost.error == "unsupported":
                    raise NoSuchColumn(str(lost)) from None
                if not (lost.by_kill and left):
                    raise
                continue
            assert isinstance(footer, Opened)
            return footer
        raise AssertionError("the last try raises")


def _parser(parse: str, max_bytes: int) -> Parser:
    """An idle process with these limits, or a new one."""
    with _lock:
        waiting, _idle[:] = _idle[:], []
        usable = [parser for parser in waiting if parser.usable()]
        fitting = [parser for parser in usable if (parser.parse, parser.max_bytes) == (parse, max_bytes)]
        _idle.extend(parser for parser in usable if parser not in fitting[:1])
    return fitting[0] if fitting else Parser(parse, max_bytes)


@atexit.register
def _end_all() -> None:
    for parser in _idle:
        if parser.usable():
            parser.end()
