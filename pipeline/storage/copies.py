"""Copies whole directories (models) between storage and this machine."""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from pipeline.storage.local import UNFINISHED_S, LocalStore
from pipeline.storage.objects import PROBE, Gone, Object, StorageError
from pipeline.storage.store import Store, open_store

UNFINISHED_COPY = f"{'[0-9a-f]' * 32}.{'[0-9a-f]' * 32}"


def local_copy(uri: str | os.PathLike[str], cache_dir: str | os.PathLike[str]) -> Path:
    """The directory at `uri` as a local path; a local one is returned as it is.

    The copy's name is a hash of URI, keys and etags, so that a changed directory is copied again, and it appears under
    that name only when complete. Raises Gone when there is nothing at `uri`, StorageError for keys that are not file names.
    """
    store = open_store(uri)
    if isinstance(store, LocalStore):
        return Path(store.root)
    objects = [entry for entry in store.list() if not entry.key.endswith("/") and not entry.key.startswith(PROBE)]
    if not objects:
        raise Gone(f"{store.uri} holds no objects")
    name = hashlib.sha256(repr((store.uri, [entry[:3] for entry in objects])).encode()).hexdigest()[:32]
    target = Path(cache_dir) / name
    if target.is_dir():
        return target
    for left in target.parent.glob(UNFINISHED_COPY):  # left by a process that was killed
        if left.stat().st_mtime < time.time() - UNFINISHED_S:
            shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f"{name}.{uuid.uuid4().hex}")
    try:
        for entry in objects:
            copy_object(store, entry, partial)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def copy_object(store: Store, entry: Object, folder: Path) -> None:
    """Copy one listed object below the folder. Raises StorageError for a key that is no file's name, or that changed."""
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


def replace_directory(path: str | os.PathLike[str], uri: str | os.PathLike[str], last: str, stale: Iterable[str]) -> None:
    """Put every file below the local directory `path` under `uri`, the one named `last` at the end.

    A reader in between finds an old `last`, which does not fit the other objects: `last` has the digests of all.

    Args:
        stale: names that the directory replaced may have had; deleted unless `path` has them too. Nothing is asked to be
            deleted that is not there: storage refuses that too to whoever may only put.
    """
    source, target = LocalStore(os.fspath(path)), open_store(uri)
    names = [entry.key for entry in source.list()]
    for name in names:
        if name != last:
            target.put(name, source.get(name))
    there = {entry.key for entry in target.list()}
    for name in stale:
        if name in there and name not in names:
            target.delete(name)
    target.put(last, source.get(last))
