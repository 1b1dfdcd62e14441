"""A store that delivers nothing: a source that reads a unit from it lists the unit's images as errors."""

from typing import NoReturn

from pipeline.storage.objects import StorageError


class NotRead(StorageError):
    """The object is not read, because reading it ends workers."""


class UnreadStore:
    """Stands for the store of the input at `uri`: every request for an object raises NotRead."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def get(self, key: str, etag: str | None = None, size: int | None = None) -> NoReturn:
        raise NotRead(key)

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> NoReturn:
        raise NotRead(key)

    def get_tail(self, key: str, length: int, etag: str | None = None) -> NoReturn:
        raise NotRead(key)

    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> NoReturn:
        raise NotRead(key)
