"""Object storage and local directories behind one interface: the only place that talks to a storage client.

URIs are `s3://bucket/prefix`, `file:///absolute/path` or a local path. Endpoint, region, profile and credentials of
S3 come from the usual AWS environment (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, instance metadata, ...).
"""

import functools
import os
from collections.abc import Iterator
from typing import Protocol

from pipeline.storage.local import LocalStore
from pipeline.storage.objects import BadUri, Object, StorageError
from pipeline.storage.s3 import S3Store


class ReadStore(Protocol):
    """What a source needs to read objects that were planned."""

    uri: str

    def get(self, key: str, etag: str | None = None, size: int | None = None) -> bytes: ...
    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes: ...
    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]: ...
    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]: ...


class Store(ReadStore, Protocol):
    """What `open_store` returns; S3Store and LocalStore say what each does."""

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]: ...
    def put(self, key: str, body: bytes) -> None: ...
    def put_new(self, key: str, body: bytes) -> bool: ...
    def put_new_file(self, key: str, path: str | os.PathLike[str]) -> bool: ...
    def delete(self, key: str) -> None: ...
    def delete_unfinished(self) -> int: ...
    def links_left_out(self) -> int: ...


def open_store(uri: str | os.PathLike[str], follow_links: bool = False) -> Store:
    """The store at a URI. One per process, URI and AWS environment; nothing is requested yet. Raises BadUri.

    Args:
        follow_links: in a local directory, list and read the targets of symbolic links, wherever they lie.
    """
    uri = os.fspath(uri)
    scheme, separator, _ = uri.partition("://")
    if scheme != "s3":
        return _open(uri, follow_links, None if separator else os.getcwd())
    return _open(uri, follow_links, *sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


@functools.lru_cache(maxsize=64)
def _open(uri: str, follow_links: bool, *_where: object) -> Store:
    """where: what else a URI depends on, if it does: a bucket on the AWS environment, a path on the working directory."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise BadUri("uri must be s3://bucket/prefix, file:///path or a local path; got ''. Name a place.")
        return LocalStore(uri, follow_links)
    if scheme == "file" and rest.startswith("/"):
        return LocalStore(rest, follow_links)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if bucket:
            return S3Store(bucket, prefix.removesuffix("/"))
    raise BadUri(f"uri must be s3://bucket/prefix, file:///path or a local path; got {uri!r}. Correct it.")


def check_conditional_put(store: Store, key: str) -> None:
    """Raises StorageError unless the store refuses to create an object twice; `key` names a probe, which is deleted again.

    Some gateways accept `If-None-Match` and ignore it; commits and leases depend on it.
    """
    store.put_new(key, b"1")
    created_again = store.put_new(key, b"2")
    store.delete(key)
    if created_again:
        raise StorageError(
            f"output must be storage that honours If-None-Match on PUT; {store.uri} created {key!r} twice. "
            "Use another endpoint or a newer gateway."
        )
