"""Walks the files below a folder, following links, and writes their paths as text."""

import os
from collections.abc import Iterator
from pathlib import Path

from jobs.command.errors import UsageError


def walked(folder: Path, flag: str = "--input") -> Iterator[bytes]:
    """Paths of all files, relative to the folder. Each folder is entered once, so that loops of links end.

    Raises UsageError for a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UsageError(flag, "a folder that can be listed", error.filename, f"{error.strerror}.") from error

    top = os.fsencode(folder)
    entered = {os.path.realpath(top)}
    for directory, names, files in os.walk(top, onerror=refuse, followlinks=True):
        kept = []
        for name in sorted(names):
            real = os.path.realpath(os.path.join(directory, name))
            if real not in entered:
                entered.add(real)
                kept.append(name)
        names[:] = kept
        yield from (os.path.relpath(os.path.join(directory, name), top) for name in files)


def as_key(path: bytes) -> str:
    """A relative path as text; bytes that are not UTF-8 become `\\xNN`."""
    return path.decode("utf-8", "backslashreplace")
