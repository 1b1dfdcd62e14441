"""What the parser of Parquet and its parent tell each other: a line of JSON each, and raw bytes after some.

The parent does not trust what it gets: `answer_of` checks it.
"""

import json
from typing import NamedTuple

MAX_PIECE_BYTES = 16 << 20  # of the file in one Read, and of cells in one answer unless a single one is larger


class Open(NamedTuple):
    """The file to parse from now on. size: bytes.  buffer_bytes: read at once.  max_cell_bytes: of larger cells only the size
    is told.  timeout_s: processor time of a request."""

    key: str
    size: int
    image_column: str | None
    id_column: str | None
    buffer_bytes: int
    max_cell_bytes: int
    timeout_s: float


class Rows(NamedTuple):
    """Asks for the next rows of a row group, from its row `skip` on, parsed so many at a time. images: with them, else ids."""

    group: int
    skip: int
    batch_rows: int
    images: bool


class Close(NamedTuple):
    """The file is no longer needed; no answer follows."""


class Read(NamedTuple):
    """The parser asks for bytes of the file; they follow without a line."""

    offset: int
    length: int


class Opened(NamedTuple):
    """rows: what the footer says of the file.  groups: (rows, decompressed bytes) of each row group."""

    rows: int
    groups: list[tuple[int, int]]


class Cells(NamedTuple):
    """Rows, none at the end of the group. ids, sizes: one for each row, None for null; without images sizes are None.

    After the line follow the images of at most `max_cell_bytes`, `length` bytes in all.
    """

    ids: list[str | None]
    sizes: list[int | None]
    length: int


class Failed(NamedTuple):
    """The file or the rows cannot be parsed; `error` is one of ERRORS."""

    error: str
    message: str


Request = Open | Rows | Close
Answer = Read | Opened | Cells | Failed
ERRORS = ("corrupt_shard", "too_much_memory", "unsupported")
MAX_MESSAGE = 2000


def line_of(told: Request | Answer) -> bytes:
    """One line of JSON, with its end."""
    return json.dumps([type(told).__name__, *told]).encode() + b"\n"


def request_of(line: bytes) -> Request:
    name, *fields = json.loads(line)
    return {"Open": Open, "Rows": Rows, "Close": Close}[name](*fields)


def answer_of(line: bytes) -> Answer:
    """The answer on a line. Raises ValueError or TypeError when it is none."""
    name, *fields = json.loads(line)
    match name, fields:
        case "Read", [int() as offset, int() as length] if offset >= 0 and 0 < length <= MAX_PIECE_BYTES:
            return Read(offset, length)
        case "Opened", [int() as rows, list() as groups]:
            return Opened(rows, [(int(count), int(size)) for count, size in groups])
        case "Cells", [list() as ids, list() as sizes, int() as length] if len(ids) == len(sizes):
            if all(row_id is None or isinstance(row_id, str) for row_id in ids) and all(
                size is None or (isinstance(size, int) and size >= 0) for size in sizes
            ):
                return Cells(ids, sizes, length)
        case "Failed", [str() as error, str() as message] if error in ERRORS:
            return Failed(error, message[:MAX_MESSAGE])
    raise ValueError("no answer")
