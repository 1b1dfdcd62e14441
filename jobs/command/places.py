"""Whether what a verb is to write can be written, asked before the work whose result would be lost."""

import contextlib
import os
import re
import tempfile
from pathlib import Path

from jobs.command.errors import UsageError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""Begins a path that was meant as an address, s3://bucket/x. A Path keeps only one of the two slashes."""


def local_place(uri: str) -> Path | None:
    """The folder on this machine; None for a place in storage.

    >>> local_place("file:///models/tile"), local_place("s3://models/tile")
    (PosixPath('/models/tile'), None)
    """
    remote = "://" in uri and not uri.startswith("file://")
    return None if remote else Path(uri.removeprefix("file://"))


def check_file(flag: str, path: Path) -> None:
    """Raises UsageError where no file can be written at the path. Leaves nothing behind."""
    if ADDRESS.match(str(path)):
        fix = "Write it to a file here, and copy that."
        raise UsageError(flag, "a file on this machine", str(path).replace(":/", "://", 1), fix)
    if os.path.isdir(path):
        raise UsageError(flag, "a file that can be written", str(path), "It is a folder: add a file's name.")
    if not os.path.exists(path):
        check_folder(flag, path.parent)
    elif not os.access(path, os.W_OK):
        raise UsageError(flag, "a file that can be written", str(path), "Correct its rights, or choose another.")


def check_folder(flag: str, folder: Path) -> None:
    """Raises UsageError where the folder cannot be made, or no file can be written in it. Leaves nothing behind."""
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
