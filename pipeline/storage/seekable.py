"""A seekable read-only file whose bytes somebody else fetches."""

import abc
import io


class Seekable(io.RawIOBase, abc.ABC):
    """Keeps the position; `fetch` brings the bytes. It imports no client of storage: sealed processes use it too."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self._position = size, 0

    @abc.abstractmethod
    def fetch(self, start: int, end: int) -> bytes:
        """The bytes start <= offset < end, where 0 <= start < end <= size."""

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
        if self._position >= end:
            return b""
        body = self.fetch(self._position, end)
        self._position += len(body)
        return body

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase gives a memoryview to fill
        body = self.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)
