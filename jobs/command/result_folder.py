"""Folders and files of results, on this machine or in storage: asked for before the work, filled after it."""

import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.command.errors import UsageError
from jobs.command.places import check_file, check_folder, local_place
from pipeline.storage.copies import upload_directory
from pipeline.storage.objects import Denied
from pipeline.storage.store import open_store


def check_result_folder(flag: str, place: str) -> None:
    """Raises UsageError where the folder or prefix cannot be written, BadUri for no address, Unreachable without an answer."""
    local = local_place(place)
    if local is not None:
        check_folder(flag, local)
        return
    store, probe = open_store(place), f".flowscore-probe-{uuid.uuid4().hex}"
    try:
        store.put(probe, b"")
        store.delete(probe)
    except Denied as error:
        raise UsageError(
            flag, "a place that can be written", place, f"{error}. Choose another, or ask for the rights."
        ) from error


def check_result_file(flag: str, place: str) -> None:
    """The same for one file."""
    local = local_place(place)
    if local is not None:
        check_file(flag, local)
        return
    folder, _, name = place.rpartition("/")
    if not name or folder == "s3:/":
        raise UsageError(flag, "a file that can be written", place, "Add a file's name.")
    check_result_folder(flag, folder)


@contextmanager
def result_folder(place: str) -> Iterator[Path]:
    """A folder to write to, made if need be. What is for storage is put there once the block has ended without an error."""
    local = local_place(place)
    if local is not None:
        local.mkdir(parents=True, exist_ok=True)
        yield local
        return
    with TemporaryDirectory(prefix="flowscore-results-") as scratch:
        yield Path(scratch)
        upload_directory(scratch, place)


def put_result(place: str, text: str) -> None:
    """Write one file in UTF-8; it replaces one that is there."""
    local = local_place(place)
    folder = posixpath.dirname(place) if local is None else str(local.parent)
    with result_folder(folder) as there:
        (there / (posixpath.basename(place) if local is None else local.name)).write_text(text, encoding="utf-8")
