"""An object read forward from an offset, plain or gzip, without holding more than a piece of it."""

import zlib
from collections.abc import Iterator

from pipeline.storage.store import Store

GZIP = 31  # zlib's window bits for a gzip member
STEP_BYTES = 16 << 10  # compressed bytes a step: bounds what one step may grow to (zlib: 1,032 times)


class CorruptStream(Exception):
    """The compressed bytes are damaged or end early; the message says which."""


class ForwardReader:
    """`position` counts bytes of the content (decompressed, for gzip); `fetched` those that came from storage.

    A plain object is skipped by starting a new range; gzip is decompressed from its beginning. Every range is pinned to
    the etag and is tried again at exactly its offset. Errors of `Store.open_stream` come out of `read` and `skip`.
    """

    def __init__(self, store: Store, key: str, etag: str, size: int, gzip: bool):
        self._store, self._key, self._etag = store, key, etag
        self.size = None if gzip else size  # of the content; unknown for gzip
        self.fetched = 0
        self._fault: CorruptStream | None = None
        self._buffer = bytearray()
        self.position = 0
        self._pieces = self._decompressed() if gzip else self._fetch(0)

    def read(self, length: int) -> bytes:
        """The next `length` bytes; fewer only at the end. Raises CorruptStream for damaged gzip."""
        while len(self._buffer) < length and self._fault is None:
            try:
                piece = next(self._pieces, None)
            except CorruptStream as fault:
                self._fault = fault
                break
            if piece is None:
                break
            self._buffer += piece
        if len(self._buffer) < length and self._fault:
            raise self._fault
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[: len(body)]
        self.position += len(body)
        return body

    def skip(self, length: int) -> int:
        """Go on by `length` bytes; returns by how many it went, fewer only at the end."""
        if self.size is not None and length > len(self._buffer):
            skipped = min(length, self.size - self.position)
            self._buffer.clear()
            self.position += skipped
            self._pieces = self._fetch(self.position)
            return skipped
        left = length
        while left and (body := self.read(min(left, STEP_BYTES))):
            left -= len(body)
        return length - left

    def _fetch(self, start: int) -> Iterator[bytes]:
        for piece in self._store.open_stream(self._key, start, self._etag):
            self.fetched += len(piece)
            yield piece

    def _decompressed(self) -> Iterator[bytes]:
        inflate, begun = zlib.decompressobj(GZIP), False
        for piece in self._fetch(0):
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
    """What a step decompresses to; when it is damaged, what its intact beginning does, then CorruptStream."""
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
