"""Whether a verb's places can be used: input is there, output can be written. Asked before the work that would be lost."""

import contextlib
import difflib
import os
import re
import tempfile
import uuid
from pathlib import Path

from jobs.command.errors import UsageError
from pipeline.storage.objects import PROBE, BadUri, Denied
from pipeline.storage.store import Store, open_store

REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # of a path too, which has lost the second slash


def local_place(uri: str) -> Path | None:
    """The folder on this machine; None for a place in storage. Raises BadUri.

    >>> local_place("file:///models/tile"), local_place("s3://models/tile")
    (PosixPath('/models/tile'), None)
    """
    if uri.startswith("file://") and not uri.startswith("file:///"):
        open_store(uri)  # says what is wrong
    remote = "://" in uri and not uri.startswith("file://")
    return None if remote else Path(uri.removeprefix("file://"))


def check_input(flag: str, uri: str) -> None:
    """Raises UsageError for a folder of this machine that is not there, and for an address that names no place."""
    place = local_place(uri)
    if place is None:
        _opened(flag, uri)
    elif not os.path.isdir(place):
        folder = place.parent
        near = difflib.get_close_matches(place.name, _names(folder), n=1)
        fix = f"Did you mean {str(folder / near[0])!r}?" if near else "Check the path."
        if os.path.exists(place):
            fix = "It is a file: give the folder that holds it."
        raise UsageError(flag, "a folder that is there, or s3://bucket/prefix", uri, fix)


def fix_of_nothing(store: Store, otherwise: str) -> str:
    """What to do where an input has no images: follow the links that are left out there, if there are any."""
    links = store.links_left_out()
    return f"Add --follow-links: {links} links there are not followed." if links else otherwise


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def object_address(uri: str) -> tuple[str, str] | None:
    """The address around an object in storage, and its name there; None for a bucket or a folder.

    >>> object_address("s3://plant/night/figures.json"), object_address("s3://plant"), object_address("s3://plant/night/")
    (('s3://plant/night', 'figures.json'), None, None)
    """
    folder, _, name = uri.rpartition("/")
    return (folder, name) if name and folder != "s3:/" else None


def check_store(flag: str, uri: str, deletes: bool = False) -> Store:
    """The store, after a small object was put there and deleted again.

    Args:
        deletes: whether objects will have to be deleted there. Otherwise whoever may only put leaves the small object.
    Raises:
        UsageError: it is no address of a store, or storage refuses.  Unreachable: storage does not answer.
    """
    store, probe = _opened(flag, uri), f"{PROBE}-{uuid.uuid4().hex}"
    try:
        store.put(probe, b"")
    except Denied as error:
        fix = f"Storage says: {error}. Choose another, or ask for the rights."
        raise UsageError(flag, "a place that can be written", uri, fix) from error
    try:
        store.delete(probe)
    except Denied as error:
        if deletes:
            fix = f"Storage says: {error}. Ask for the right to delete, or choose another place."
            raise UsageError(flag, "a place in which objects can be deleted", uri, fix) from error
    return store


def _opened(flag: str, uri: str) -> Store:
    try:
        return open_store(uri)
    except BadUri as error:
        if REMOTE.match(uri) and not uri.startswith("s3://"):
            fix = "An S3 server of your own is named by AWS_ENDPOINT_URL." if uri.startswith("http") else "Correct it."
            raise UsageError(flag, "s3://bucket/prefix or a folder", uri, fix) from error
        raise UsageError(flag, "s3://bucket/prefix or a folder", uri, f"{error}") from error


def check_file(flag: str, path: Path) -> None:
    """Raises UsageError where no file can be written at the path. Leaves nothing behind."""
    _check_local(flag, path, "a file")
    if os.path.isdir(path):
        raise UsageError(flag, "a file that can be written", str(path), "It is a folder: add a file's name.")
    if not os.path.exists(path):
        check_folder(flag, path.parent)
    elif not os.access(path, os.W_OK):
        raise UsageError(flag, "a file that can be written", str(path), "Correct its rights, or choose another.")


def check_folder(flag: str, folder: Path) -> None:
    """Raises UsageError where the folder cannot be made, or no file can be written in it. Leaves nothing behind."""
    _check_local(flag, folder, "a folder")
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = f"{error.strerror}. Choose another place."
        raise UsageError(flag, "in a folder that can be written", str(folder), fix) from error
    finally:
        for each in missing:
            with contextlib.suppress(OSError):  # it was not made, or somebody has put something in it
                each.rmdir()


def _check_local(flag: str, path: Path, what: str) -> None:
    """A path to s3:// would make a folder of the name `s3:` here."""
    if found := REMOTE.match(str(path)):
        got = f"{found[1]}://{str(path)[found.end() :]}"
        raise UsageError(flag, f"{what} on this machine", got, f"Write it to {what} here, and copy that.")
