"""The parser's own process: it gets the bytes of a Parquet file that it asks for, and gives the footer's facts and cells.

pipeline/decode/sealed.py starts it; it has given up its rights before it imports pyarrow. It has no other access to the file
than `Read`. It ends when the pipe of its parent closes, or by the clock of its own processor.
"""

import importlib
import io
import json
import os
import resource
import signal
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.decode import sandbox
from pipeline.input.config import SourceConfig
from pipeline.input.identity import shortened
from pipeline.input.parquet.exchange import MAX_PIECE_BYTES, Cells, Close, Failed, Open, Opened, Read, Rows, line_of, request_of
from pipeline.input.parquet_columns import Columns, NoSuchColumn, find_columns
from pipeline.storage.seekable import Seekable

DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)  # pyarrow raises these for damaged bytes
GRACE_S = 30.0  # after the parent should have ended it itself
ID_ROWS = 1024  # in an answer without images


def serve(sealed: sandbox.Sealed, request_fd: int, response_fd: int, parser: str) -> None:
    """Answer every request; the line before the first answer lists the rights that could not be taken away.

    Args:
        parser: `module:function` that opens a file as `open_file` does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most if most == resource.RLIM_INFINITY else most - sandbox.IMPORT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (soft, soft))  # it never imports torch
    module, _, name = parser.partition(":")
    opening = getattr(importlib.import_module(module), name)
    with os.fdopen(request_fd, "rb") as requests, os.fdopen(response_fd, "wb") as responses:
        responses.write(json.dumps(sealed.missing).encode() + b"\n")
        responses.flush()
        opened: Parsed | None = None
        for line in requests:
            request, payload = request_of(line), b""
            answer: Opened | Cells | Failed
            if opened is not None and not isinstance(request, Rows):
                opened.stop()  # its generator refers to it: without this its pages would stay
                opened = None
            if isinstance(request, Close):
                pa.default_memory_pool().release_unused()
                continue
            try:
                if isinstance(request, Open):
                    sandbox.limit_cpu(request.timeout_s + GRACE_S)
                    opened = Parsed(opening(AskedFile(requests, responses, request.size), request), request)
                    answer = opened.footer()
                else:
                    assert opened is not None
                    sandbox.limit_cpu(opened.request.timeout_s + GRACE_S)
                    answer, payload = opened.next(request)
            except MemoryError:
                answer = Failed("too_much_memory", "parsing it takes more memory than the parser may have")
            except NoSuchColumn as error:
                answer = Failed("unsupported", str(error))
            except DAMAGED as error:
                answer = Failed("corrupt_shard", f"the Parquet file cannot be read: {error}")
            if isinstance(answer, Failed) and opened is not None:
                opened.stop()
            responses.write(line_of(answer))
            responses.write(payload)
            responses.flush()


def open_file(file: io.RawIOBase, request: Open) -> pq.ParquetFile:
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=request.buffer_bytes)


class Parsed:
    """The open file, and where its parent has got to in it."""

    def __init__(self, parquet: pq.ParquetFile, request: Open):
        self.request = request
        self._parquet = parquet
        config = SourceConfig(input_uri="", image_column=request.image_column, id_column=request.id_column)
        self._columns = find_columns(request.key, parquet.schema_arrow, config)
        self.stop()

    def footer(self) -> Opened:
        """The columns' own metadata is not used: pyarrow aborts the process when it contradicts itself."""
        metadata = self._parquet.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        return Opened(metadata.num_rows, [(group.num_rows, group.total_byte_size) for group in groups])

    def stop(self) -> None:
        """Keep no pages."""
        self._at: Rows | None = None
        self._answers: Iterator[tuple[Cells, bytes]] = iter(())

    def next(self, asked: Rows) -> tuple[Cells, bytes]:
        """The rows asked for. Reading goes on where the last answer ended, else it begins anew at the row group."""
        if asked != self._at:
            self.stop()
            self._answers = self._from(asked)
        cells, payload = next(self._answers, (Cells([], [], 0), b""))
        self._at = asked._replace(skip=asked.skip + len(cells.ids))
        return cells, payload

    def _from(self, asked: Rows) -> Iterator[tuple[Cells, bytes]]:
        columns, row = self._columns, 0
        names = columns.projection() if asked.images or columns.id is None else [columns.id]
        for batch in self._parquet.iter_batches(asked.batch_rows, [asked.group], names, use_threads=False):
            row += len(batch)
            if row > asked.skip:
                wanted = batch.slice(max(0, asked.skip - row + len(batch)))
                yield from self._images(columns, wanted) if asked.images else _ids(columns, wanted)

    def _images(self, columns: Columns, batch: pa.RecordBatch) -> Iterator[tuple[Cells, bytes]]:
        ids: list[str | None] = []
        sizes: list[int | None] = []
        pieces: list[pa.Buffer] = []
        length = 0
        for image, row_id in columns.buffers(batch):
            ids.append(None if row_id is None else shortened(row_id))
            sizes.append(None if image is None else image.size)
            if image is not None and image.size <= self.request.max_cell_bytes:
                pieces.append(image)
                length += image.size
            if length >= MAX_PIECE_BYTES:
                yield Cells(ids, sizes, length), b"".join(pieces)
                ids, sizes, pieces, length = [], [], [], 0
        if ids:
            yield Cells(ids, sizes, length), b"".join(pieces)


def _ids(columns: Columns, batch: pa.RecordBatch) -> Iterator[tuple[Cells, bytes]]:
    ids = [None if row_id is None else shortened(row_id) for row_id in columns.ids(batch)]
    for start in range(0, len(ids), ID_ROWS):
        piece = ids[start : start + ID_ROWS]
        yield Cells(piece, [None] * len(piece), 0), b""


class AskedFile(Seekable):
    """The file as the parent gives it."""

    def __init__(self, requests: BinaryIO, responses: BinaryIO, size: int):
        super().__init__(size)
        self._requests, self._responses = requests, responses

    def fetch(self, start: int, end: int) -> bytes:
        pieces = []
        for first in range(start, end, MAX_PIECE_BYTES):
            wanted = Read(first, min(MAX_PIECE_BYTES, end - first))
            self._responses.write(line_of(wanted))
            self._responses.flush()
            body = self._requests.read(wanted.length)
            if len(body) < wanted.length:
                os._exit(0)  # the parent is gone
            pieces.append(body)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
