"""Object storage and local directories behind one interface: the only place that talks to a storage client.

URIs are `s3://bucket/prefix`, `file:///absolute/path` or a local path. Endpoint, region, profile and credentials of
S3 come from the usual AWS environment (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, instance metadata, ...).
"""

import functools
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pipeline.storage.local import UNFINISHED_S, LocalStore
from pipeline.storage.objects import BadUri, Changed, Denied, Gone, Object, StorageError, Unreachable, retry
from pipeline.storage.s3 import S3Store
from pipeline.storage.s3_connection import connect

__all__ = [
    "BadUri",
    "Changed",
    "Denied",
    "Gone",
    "Object",
    "StorageError",
    "Store",
    "Unreachable",
    "check_conditional_put",
    "local_copy",
    "open_store",
    "retry",
    "storage_options",
    "upload_directory",
]


UNFINISHED_COPY = f"{'[0-9a-f]' * 32}.{'[0-9a-f]' * 32}"

DELTA_RETRIES = "3"
"""Of a request of the Delta library, within a second; what lasts longer is tried again as every other request is."""


class Store(Protocol):
    """What `open_store` returns; S3Store and LocalStore say what each does."""

    uri: str

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]: ...
    def get(self, key: str, etag: str | None = None, size: int | None = None) -> bytes: ...
    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes: ...
    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]: ...
    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]: ...
    def put(self, key: str, body: bytes) -> None: ...
    def put_new(self, key: str, body: bytes) -> bool: ...
    def put_new_file(self, key: str, path: str | os.PathLike[str]) -> bool: ...
    def delete(self, key: str) -> None: ...
    def delete_unfinished(self) -> int: ...


def open_store(uri: str | os.PathLike[str]) -> Store:
    """The store at a URI. One per process, URI and AWS environment; nothing is requested yet. Raises BadUri."""
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _open(os.fspath(uri), os.getcwd(), environment)


@functools.lru_cache(maxsize=64)
def _open(uri: str, _directory: str, _environment: tuple[tuple[str, str], ...]) -> Store:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise BadUri("uri must be s3://bucket/prefix, file:///path or a local path; got ''. Name a place.")
        return LocalStore(uri)
    if scheme == "file" and rest.startswith("/"):
        return LocalStore(rest)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if bucket:
            return S3Store(bucket, prefix.removesuffix("/"))
    raise BadUri(f"uri must be s3://bucket/prefix, file:///path or a local path; got {uri!r}. Correct it.")


def local_copy(uri: str | os.PathLike[str], cache_dir: str | os.PathLike[str]) -> Path:
    """The directory at `uri` as a local path; a local one is returned as it is.

    The copy's name is a hash of URI, keys and etags, so that a changed directory is copied anew, and it appears under
    that name only when complete. Raises Gone when there is nothing at `uri`, StorageError for keys that are no file names.
    """
    store = open_store(uri)
    if isinstance(store, LocalStore):
        return Path(store.root)
    objects = [entry for entry in store.list() if not entry.key.endswith("/")]
    if not objects:
        raise Gone(f"{store.uri} holds no objects")
    name = hashlib.sha256(repr((store.uri, objects)).encode()).hexdigest()[:32]
    target = Path(cache_dir) / name
    if target.is_dir():
        return target
    for left in target.parent.glob(UNFINISHED_COPY):  # by a process that was killed
        if left.stat().st_mtime < time.time() - UNFINISHED_S:
            shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f"{name}.{uuid.uuid4().hex}")
    try:
        for entry in objects:
            _copy(store, entry, partial)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _copy(store: Store, entry: Object, folder: Path) -> None:
    refused = f"{store.uri}/{entry.key} cannot be copied: its key"
    if "\0" in entry.key or not (path := (folder / entry.key).resolve()).is_relative_to(folder.resolve()):
        raise StorageError(f"{refused} leads outside the directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(entry.key, entry.etag, entry.size))
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise StorageError(f"{refused} is that of a directory too") from error


def upload_directory(path: str | os.PathLike[str], uri: str | os.PathLike[str]) -> None:
    """Put every file below the local directory `path` under `uri`, in byte order of the names."""
    source, target = LocalStore(os.fspath(path)), open_store(uri)
    for entry in source.list():
        target.put(entry.key, source.get(entry.key))


def check_conditional_put(store: Store, key: str) -> None:
    """Raises StorageError unless the store refuses to create an object twice; `key` names a probe, removed again.

    Some gateways accept `If-None-Match` and ignore it; commits and leases rest on it.
    """
    store.put_new(key, b"1")
    created_again = store.put_new(key, b"2")
    store.delete(key)
    if created_again:
        raise StorageError(
            f"output must be storage that honours If-None-Match on PUT; {store.uri} created {key!r} twice. "
            "Use another endpoint or a newer gateway."
        )


def storage_options(uri: str | os.PathLike[str]) -> dict[str, str]:
    """`storage_options` for deltalake, from the same environment; empty for local paths.

    Credentials are those of this moment: ask again for every transaction.
    """
    if isinstance(open_store(uri), LocalStore):
        return {}
    connection = connect()
    options = {"AWS_REGION": connection.region, "max_retries": DELTA_RETRIES}
    if connection.endpoint:
        options["AWS_ENDPOINT_URL"] = connection.endpoint
        options["AWS_ALLOW_HTTP"] = str(connection.endpoint.startswith("http://")).lower()
    if connection.unsigned:
        return options | {"AWS_SKIP_SIGNATURE": "true"}
    if not connection.credentials:
        return options
    frozen = connection.credentials.get_frozen_credentials()
    options |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
    return options | ({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {})
