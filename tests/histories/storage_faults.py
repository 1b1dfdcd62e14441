"""Faults at any storage request of a command: kills, lost answers, requests that fail once, and pauses in which others work.

The requests of a command come in one order, since pools of threads do their work at once. A killed command makes no request
any more, whatever its `finally` says.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from fault_kinds import OF_DELTA, Fault, Killed, Running, put_label
from moved_clock import MovedClock
from moved_proxy import MovedProxy
from parquet_here import ParserHere
from small_archive import SmallArchive

from pipeline.input.parquet import shard
from pipeline.sources import files
from pipeline.state import commits, lease, ledger
from pipeline.storage import ahead
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Archived, Object, Refused, Unreachable
from pipeline.storage.s3 import S3Store
from pipeline.tables import publication, query


class AtOnce:
    """A pool of threads that does everything at once, in the order of the calls."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, work: Callable, *args: object) -> Future:
        future: Future = Future()
        try:
            future.set_result(work(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(self, work: Callable, *items: Any) -> Iterator:
        return map(work, *items)

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        pass


class StorageFaults:
    """archives: those that may be listed.  wrote: is told the key of every object that was put where none was.
    proxy: that before an S3 server; then answers are lost there, and a kill ends a call of the Delta library at some request.
    dropped: keys of deleted commits.
    met: how often each fault came at a request of each kind, and each deed in the pause at one.
    """

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self._commands: list[Running] = []
        self.archives: list[SmallArchive] = []
        self.wrote: Callable[[str], None] = lambda key: None
        self.proxy: MovedProxy | None = None
        self._cuts = cycle(range(6))
        self.dropped: set[str] = set()
        self.met: Counter[tuple[str, str]] = Counter()

    @property
    def depth(self) -> int:
        return len(self._commands)

    @property
    def running(self) -> Running:
        """The command at work."""
        return self._commands[-1]

    def note(self, what: str) -> None:
        """Count what a command does while another one pauses, with the request at which that pauses."""
        if len(self._commands) > 1:
            self.met[what, self._commands[-2].at or ""] += 1

    @contextlib.contextmanager
    def command(self, fault: Fault | None) -> Iterator[Running]:
        self._commands.append(Running(fault))
        try:
            yield self._commands[-1]
        finally:
            self._commands.pop()

    def request(self, label: str, call: Callable[[], Any], lost: Callable[[], Any], failure: type[Exception]) -> Any:
        if not self._commands:
            return call()
        command = self._commands[-1]
        if command.dead:
            raise Killed
        how = command.due(label)
        if how:
            self.met[how, label] += 1
        if how == "kill before":
            if self.proxy is not None and label in OF_DELTA:
                with self.proxy.cut(next(self._cuts)), contextlib.suppress(Exception):
                    call()
            self._kill(command)
        elif how == "lost" and self.proxy is not None:
            with self.proxy.lost(writes=label not in ("open", "read", "list")):
                return call()
        elif how == "fail before":
            raise failure(f"no answer to {label}")
        elif how == "pause before":
            command.fault.meanwhile()
        result = call()
        if how == "kill after":
            self._kill(command)
        elif how == "lost":
            return lost()
        elif how == "fail after":
            raise failure(f"no answer to {label}, which was done")
        elif how == "pause after":
            command.fault.meanwhile()
        return result

    def _kill(self, command: Running) -> None:
        command.dead = True
        raise Killed

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module in (ahead, publication, query, files, ledger, commits):
            patch.setattr(module, "ThreadPoolExecutor", AtOnce)
        patch.setattr(shard, "Parser", ParserHere)
        patch.setattr(lease, "BEAT_S", 1000.0)  # no beat, and every other lease looks as if its holder were dead
        for kind in (LocalStore, S3Store):
            for name in ("get", "get_range", "get_tail"):
                patch.setattr(kind, name, self._read(getattr(kind, name)))
            for name in ("put", "put_new", "put_new_file"):
                patch.setattr(kind, name, self._put(getattr(kind, name), name != "put"))
            patch.setattr(kind, "list", self._list(kind.list))
            patch.setattr(kind, "delete", self._delete(kind.delete))
        delta = {"create_write_transaction": "delta", "vacuum": "vacuum", "__init__": "open", "create_checkpoint": "checkpoint"}
        delta |= {"update_incremental": "open", "cleanup_metadata": "logs"}
        for name, label in delta.items():
            patch.setattr(DeltaTable, name, self._of_delta(getattr(DeltaTable, name), label))
        patch.setattr(DeltaTable, "create", self._of_delta(DeltaTable.create, "create"))
        patch.setattr(publication, "take_back", self._take_back(publication.take_back))

    def _archive(self, store: LocalStore | S3Store) -> SmallArchive | None:
        return next((archive for archive in self.archives if store.uri == archive.uri), None)

    def _read(self, real: Callable) -> Callable:
        def read(store: LocalStore, key: str, *args: Any, **options: Any) -> Any:
            def call() -> Any:
                archive = self._archive(store)
                why = archive.unreadable.get(key) if archive else None
                if why:
                    raise (Archived if why == "archived" else Refused)(key)
                return real(store, key, *args, **options)

            return self.request("read", call, call, Unreachable)

        return read

    def _list(self, real: Callable) -> Callable:
        def listed(store: LocalStore, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
            def call() -> list[Object]:
                found, archive = list(real(store, prefix, start_after)), self._archive(store)
                return [each._replace(stamp=str(archive.stamps[each.key])) for each in found] if archive else found

            yield from self.request("listing" if self._archive(store) else "list", call, call, Unreachable)

        return listed

    def _put(self, real: Callable, new: bool) -> Callable:
        def put(store: LocalStore, key: str, what: Any) -> Any:
            def call() -> Any:
                made = real(store, key, what)
                if made and isinstance(store, LocalStore):
                    if put_label(key) in ("data", "row"):
                        self._clock.date(Path(store.root, key))
                    self.made(key)
                return made

            return self.request(put_label(key), call, lambda: False if new else None, Unreachable)

        return put

    def made(self, key: str) -> None:
        """An object is there since now, also when the answer was lost."""
        if self._commands and put_label(key) in ("data", "row"):
            self.running.written.append(key)
        self.wrote(key)

    def _take_back(self, real: Callable) -> Callable:
        def take_back(*args: Any) -> None:
            fault = self.running.fault
            told = fault is not None and fault.decides_anew and self.running.at
            assert not told, "a commit of another program is taken back that came before the manifest"
            real(*args)

        return take_back

    def _delete(self, real: Callable) -> Callable:
        def deleted(store: LocalStore, key: str) -> None:
            def call() -> None:
                real(store, key)
                if "/commits/" in key:
                    self.dropped.add(key)

            self.request("delete", call, lambda: None, Unreachable)

        return deleted

    def _of_delta(self, real: Callable, label: str) -> Callable:
        def lost() -> Any:
            if label == "delta":
                raise CommitFailedError("a commit of this version is there")
            raise OSError("no answer")

        def asked(*args: Any, **options: Any) -> Any:
            return self.request(label, lambda: real(*args, **options), lost, OSError)

        return asked
