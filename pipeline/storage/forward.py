"""Reads an object, plain or compressed, forward from an offset; memory holds one piece of it at a time."""

from collections.abc import Iterator

from pipeline.storage.compressed import STEP_BYTES, Compression, CorruptStream, decompressed
from pipeline.storage.store import ReadStore


class ForwardReader:
    """`position` counts bytes of the content (decompressed, for a compressed object); `fetched` counts bytes from storage.

    A plain object is skipped by starting a new range; a compressed one is decompressed from its beginning. Every range is
    pinned to the etag and is tried again at exactly its offset. `read` and `skip` raise the errors of `Store.open_stream`.
    """

    def __init__(self, store: ReadStore, key: str, etag: str, size: int, compression: Compression | None):
        self._store, self._key, self._etag = store, key, etag
        self.size = None if compression else size  # of the content; unknown for a compressed object
        self.fetched = 0
        self._fault: CorruptStream | None = None
        self._buffer = bytearray()
        self.position = 0
        self._pieces = decompressed(self._fetch(0), compression) if compression else self._fetch(0)

    def read(self, length: int) -> bytes:
        """The next `length` bytes; fewer only at the end. Raises CorruptStream for a damaged compressed object."""
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
        """Skip `length` bytes; returns how many were skipped, fewer only at the end."""
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
