"""Copies what a verb reads many times over from storage to this machine, for as long as the verb runs."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.command.errors import CommandError, UsageError
from jobs.command.places import local_place, object_address
from jobs.command.progress import Progress
from pipeline.storage.copies import copy_object
from pipeline.storage.objects import Object, listed
from pipeline.storage.store import open_store

THREADS = 16


@contextmanager
def copied() -> Iterator["Copied"]:
    """Copies that are deleted at the end of the block. Errors of commands that leave it name the places in storage.

    with copied() as copies:
        root = copies.folder("--input", "s3://plant/labelled", ("test", "ground_truth"), check)
    """
    with TemporaryDirectory(prefix="flowscore-copied-") as scratch:
        copies = Copied(Path(scratch))
        try:
            yield copies
        except CommandError as error:
            error.args = (copies.named(str(error)),)
            raise


class Copied:
    """A place on this machine is left where it is, and no byte of it is copied."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._places: dict[str, str] = {}

    def folder(self, flag: str, place: str, below: tuple[str, ...], check: Callable[[list[str]], None]) -> Path:
        """The folder with what lies in its sub-folders `below`.

        Args:
            check: gets the keys below the address before any of them is copied, and raises what is wrong with them.
        Raises:
            UsageError: storage has nothing there.  StorageError.
        """
        local = local_place(place)
        if local is not None:
            return local
        store, target = open_store(place), self._target(place)
        entries = [
            entry for name in below for entry in store.list(f"{name}/") if not entry.key.endswith("/")
        ]  # a key that ends in a slash stands for a folder
        if not entries:
            rule = f"a folder with {' or '.join(f'{name}/' for name in below)}"
            raise UsageError(flag, rule, place, "There is nothing below it: check the address.")
        check([entry.key for entry in entries])
        size, free = sum(entry.size for entry in entries), shutil.disk_usage(target).free
        if size > free:
            fix = f"Set TMPDIR to a disk with more than the {free / 1e6:,.0f} MB that are free in {self._scratch.parent}."
            raise UsageError(flag, "a folder that fits into scratch files", f"{place} with {size / 1e6:,.0f} MB", fix)
        print(f"copying {len(entries):,} objects, {size / 1e6:,.1f} MB, from {store.uri}", flush=True)

        def copy(entry: Object) -> None:
            copy_object(store, entry, target)

        progress = Progress("copying", len(entries), unit="objects", failed=None)
        with progress, ThreadPoolExecutor(THREADS) as pool:
            for done, _ in enumerate(pool.map(copy, entries), start=1):
                progress.update(done)
        return target

    def file(self, flag: str, place: str) -> Path:
        """One file. Raises UsageError where storage has none, StorageError."""
        local = local_place(place)
        if local is not None:
            return local
        address = object_address(place)
        if address is None:
            raise UsageError(flag, "a file", place, "Add a file's name.")
        folder, name = address
        store, target = open_store(folder), self._target(folder)
        entry = listed(store, name)
        if entry is None:
            raise UsageError(flag, "a file", place, "There is none: check the address.")
        copy_object(store, entry, target)
        return target / name

    def named(self, text: str) -> str:
        """The text with the places in storage instead of their copies."""
        for target, place in self._places.items():
            text = text.replace(target, place)
        return text

    def _target(self, place: str) -> Path:
        target = self._scratch / str(len(self._places))
        target.mkdir()
        self._places[os.fspath(target)] = place.rstrip("/")
        return target
