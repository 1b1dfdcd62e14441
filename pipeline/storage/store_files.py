"""Shows the objects of a store to DuckDB as files; reads check lengths and try transient faults again, as everywhere."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from pipeline.storage.objects import StorageError, listed
from pipeline.storage.store import Store

SCHEME = "output"
BLOCK_BYTES = 4 << 20  # read ahead: DuckDB asks for single column chunks


class StoreFiles(AbstractFileSystem):
    """Read-only. Paths are `output://key`, which hides the special characters of the store's own address, or the full URI.

    `fault` is the last StorageError: DuckDB raises its own error when it cannot read a file.
    """

    protocol = (SCHEME, "s3")
    cachable = False

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._known: dict[str, dict[str, Any]] = {}
        self.fault: StorageError | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{SCHEME}://").removeprefix("s3://")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """DuckDB asks once per file. Raises FileNotFoundError."""
        name, key = self._strip_protocol(path), self._key(path)
        if name not in self._known:
            with self._remembering():
                found = listed(self._store, key)
            if found is None:
                raise FileNotFoundError(path)
            self._known[name] = {"name": name, "size": found.size, "type": "file", "ETag": found.etag}
        return self._known[name]

    def modified(self, path: str) -> datetime:
        """The same time for all files: a table's files are never written twice."""
        return datetime.fromtimestamp(0, UTC)

    def read_range(self, path: str, start: int, end: int, etag: str) -> bytes:
        with self._remembering():
            return self._store.get_range(self._key(path), start, end - start, etag)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "StoreFile":
        if mode != "rb":
            raise PermissionError(f"{path} can only be read here")
        return StoreFile(self, path, mode, block_size=BLOCK_BYTES)

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except StorageError as fault:
            self.fault = fault
            raise

    def _key(self, path: str) -> str:
        return self._strip_protocol(path).removeprefix(f"{self._strip_protocol(self._store.uri)}/")


class StoreFile(AbstractBufferedFile):
    """One open file; fsspec keeps the block that was read last."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.read_range(self.path, start, end, self.details["ETag"])
