"""Folders and files of results, on this machine or in storage: asked for before the work, filled after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.command.errors import UsageError
from jobs.command.places import check_file, check_folder, check_store, local_place, object_address
from pipeline.storage.copies import upload_directory


def check_result_folder(flag: str, place: str) -> None:
    """Raises UsageError where the folder or prefix cannot be written, Unreachable without an answer."""
    local = local_place(place)
    if local is not None:
        check_folder(flag, local)
    else:
        check_store(flag, place)


def check_result_file(flag: str, place: str) -> None:
    """The same for one file."""
    local = local_place(place)
    if local is not None:
        check_file(flag, local)
        return
    address = object_address(place)
    if address is None:
        raise UsageError(flag, "a file that can be written", place, "Add a file's name.")
    check_store(flag, address[0])


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
    address = object_address(place) if local is None else (str(local.parent), local.name)
    assert address is not None, "check_result_file has checked"
    with result_folder(address[0]) as folder:
        (folder / address[1]).write_text(text, encoding="utf-8")
