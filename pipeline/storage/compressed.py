"""Decompresses a stream piece by piece, with bounded memory; damage loses nothing that stands before it."""

import zlib
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

Compression = Literal["gzip", "zstd"]

GZIP = 31  # zlib's window bits for a gzip member
STEP_BYTES = 16 << 10  # compressed bytes per step: bounds the output of one step (zlib: 1,032 times as much)
BLOCK_BYTES = 512  # zstd decompresses so many at once: a tar's block, so that damage loses no whole block


class CorruptStream(Exception):
    """The compressed bytes are damaged or end early; the message says which."""


def decompressed(pieces: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """The content of one compressed stream, which may have several gzip members or zstd frames (pzstd, skippable ones).

    Raises CorruptStream after everything that could be decompressed; errors of `pieces` pass through unchanged.
    """
    return _from_gzip(pieces) if compression == "gzip" else _from_zstd(pieces)


def _from_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    inflate, begun = zlib.decompressobj(GZIP), False
    for piece in pieces:
        for first in range(0, len(piece), STEP_BYTES):
            step = piece[first : first + STEP_BYTES]
            while step:
                if inflate.eof:  # a gzip file is one or more members, then perhaps zero padding
                    step = step.lstrip(b"\0")
                    if not step:
                        break
                    inflate = zlib.decompressobj(GZIP)
                yield from _inflated(inflate, step)
                begun, step = True, inflate.unused_data
    if begun and not inflate.eof:
        raise CorruptStream("the compressed stream ends early")


def _inflated(inflate: "zlib._Decompress", step: bytes) -> Iterator[bytes]:
    """The output of one step; of a damaged step the output of its intact beginning, then CorruptStream."""
    before = inflate.copy()
    try:
        body = inflate.decompress(step)
    except zlib.error as error:
        intact = bytearray()
        try:
            for byte in step:
                intact += before.decompress(bytes([byte]))
        except zlib.error:
            yield bytes(intact)
        raise CorruptStream(f"the compressed stream is damaged ({error})") from error
    yield body


def _from_zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Uses Arrow's decompressor, which refuses frames that ask for more than 128 MiB of memory."""
    stream = pa.CompressedInputStream(pa.PythonFile(_Pieces(pieces), mode="r"), "zstd")
    while True:
        try:
            body = stream.read(BLOCK_BYTES)
        except OSError as error:
            ended = "Truncated" in str(error)
            what = "ends early" if ended else f"is damaged ({str(error).removeprefix('ZSTD decompress failed: ')})"
            raise CorruptStream(f"the compressed stream {what}") from error
        if not body:
            return
        yield body


class _Pieces:
    """Shows pieces to Arrow as a file; it has only the methods that Arrow calls."""

    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def read(self, length: int) -> bytes:
        while not self._left and (piece := next(self._pieces, None)) is not None:
            self._left = memoryview(piece)
        body, self._left = self._left[:length], self._left[length:]
        return bytes(body)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
