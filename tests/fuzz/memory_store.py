"""A store of one object in memory that counts its requests: it bounds a reader's work without a clock."""

from collections.abc import Iterator

from pipeline.storage.objects import Object


class MemoryStore:
    """piece_bytes: the size of a streamed read's pieces.  requests, fetched: the number of requests, and of their bytes."""

    uri = "s3://bucket/input"

    def __init__(self, key: str, content: bytes, piece_bytes: int = 1 << 20):
        self.object = Object(key, len(content), "etag")
        self._content, self._piece_bytes = content, piece_bytes
        self.requests = self.fetched = 0

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
        yield from (entry for entry in [self.object] if entry.key.startswith(prefix))

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        return self._count(self._content[start : start + length])

    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]:
        return self._count(self._content[-length:]), len(self._content)

    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        while piece := self._count(self._content[start : start + self._piece_bytes]):
            yield piece
            start += len(piece)

    def _count(self, piece: bytes) -> bytes:
        self.requests += 1
        self.fetched += len(piece)
        return piece
