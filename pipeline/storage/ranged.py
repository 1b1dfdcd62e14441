"""An object as a seekable file whose reads are range requests, for readers of Parquet footers and column chunks."""

import io

from pipeline.storage.store import Store

TAIL_BYTES = 64 << 10  # fetched first: holds the footer of nearly every Parquet file


class RangedFile(io.RawIOBase):
    """Read-only; every read before the tail is one request. Every call may raise the errors of `Store.get`."""

    def __init__(self, store: Store, key: str, etag: str | None):
        super().__init__()
        self._store, self._key, self._etag = store, key, etag
        self._tail, self.size = store.get_tail(key, TAIL_BYTES, etag)
        self._position = 0
        self.bytes_read = len(self._tail)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, length: int | None = -1) -> bytes:
        end = self.size if length is None or length < 0 else min(self._position + length, self.size)
        start, tail_start = self._position, self.size - len(self._tail)
        if start >= end:
            return b""
        if start >= tail_start:
            body = self._tail[start - tail_start : end - tail_start]
        else:
            body = self._store.get_range(self._key, start, end - start, self._etag)
            self.bytes_read += len(body)
        self._position += len(body)
        return body

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase gives a memoryview to fill
        body = self.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)


def open_ranged(store: Store, key: str, etag: str | None = None) -> RangedFile:
    """The object as a file; `etag` pins every request to it. Raises Gone, Changed, Denied, Unreachable."""
    return RangedFile(store, key, etag)
