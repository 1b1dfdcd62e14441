"""An object as a seekable file whose reads are range requests, for readers of Parquet footers and column chunks."""

from pipeline.storage.seekable import Seekable
from pipeline.storage.store import ReadStore

TAIL_BYTES = 64 << 10  # fetched first: holds the footer of nearly every Parquet file


class RangedFile(Seekable):
    """Read-only; every read before the tail is one request. Every call may raise the errors of `Store.get`."""

    def __init__(self, store: ReadStore, key: str, etag: str | None):
        self._store, self._key, self._etag = store, key, etag
        self._tail, size = store.get_tail(key, TAIL_BYTES, etag)
        super().__init__(size)
        self.bytes_read = len(self._tail)

    def fetch(self, start: int, end: int) -> bytes:
        tail_start = self.size - len(self._tail)
        if start >= tail_start:
            return self._tail[start - tail_start : end - tail_start]
        body = self._store.get_range(self._key, start, end - start, self._etag)
        self.bytes_read += len(body)
        return body


def open_ranged(store: ReadStore, key: str, etag: str | None = None) -> RangedFile:
    """The object as a file; `etag` pins every request to it. Raises Gone, Changed, Denied, Unreachable."""
    return RangedFile(store, key, etag)
