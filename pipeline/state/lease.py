"""One driver a ledger, for economy only: two drivers would do the same work twice, without harm.

An epoch is taken by put-if-absent of a numbered object; its holder rewrites a counter beside it, `.beat`. A driver
that finds the counter unchanged for `STALE_S` of its own clock, or the holder's process on this host dead, takes the next
epoch. A holder that sees a higher epoch stops.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.numbered import Numbered
from pipeline.storage.objects import Gone, StorageError

BEAT_S = 5.0
STALE_S = 30.0

log = logging.getLogger(__name__)


class LeaseHeld(StateError):
    """Another driver has the ledger."""


class LeaseLost(StateError):
    """Another driver has taken the ledger over."""


def epochs(ledger: Ledger) -> Numbered:
    """Who has driven the ledger: JSON with `host` and `pid`, one for each command."""
    return Numbered(ledger.store, f"{ledger.prefix}/lease")


def beat_key(ledger: Ledger, epoch: int) -> str:
    return epochs(ledger).key(epoch).removesuffix("json") + "beat"


class Lease:
    """The right to drive a ledger; a context manager that beats while it is held."""

    def __init__(self, ledger: Ledger, wait: Callable[[float], None] = time.sleep) -> None:
        self._ledger = ledger
        self._epochs = epochs(ledger)
        self._wait = wait
        self._stop = threading.Event()
        self._epoch = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        self._epoch = self._take()
        self._beat(0)
        self._thread = threading.Thread(target=self._beat_until_stopped, name="flowscore-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        with contextlib.suppress(StorageError):  # the next driver then waits for `STALE_S`; the command has ended
            self._beat(-1)

    def check(self) -> None:
        """Raises:
        LeaseLost: another driver has taken a higher epoch.
        """
        if self._epochs.newest() != self._epoch:
            raise LeaseLost(f"model {self._ledger.model} was taken over by another driver; this one stops")

    def _take(self) -> int:
        me = {"host": socket.gethostname(), "boot": _boot_id(), "pid": os.getpid(), "started": _started(os.getpid())}
        while True:
            highest = self._epochs.newest()
            if highest and not self._is_free(highest):
                raise LeaseHeld(
                    f"model {self._ledger.model} is driven by another process ({self._who(highest)}). "
                    "Wait for it, or stop it and repeat the command"
                )
            if self._epochs.put_new(highest + 1, json.dumps(me).encode()):
                return highest + 1

    def _is_free(self, epoch: int) -> bool:
        first = self._counter(epoch)
        if first == -1:
            return True
        model, last, holder = self._ledger.model, f"process {self._who(epoch)}", self._holder(epoch)
        same_host = holder["host"] == socket.gethostname() and holder["boot"] == _boot_id()
        if same_host and _started(holder["pid"]) != holder["started"]:
            log.info("model %s: the last command, %s, was killed; this one takes over", model, last)
            return True
        log.info("model %s: %s drives it; waiting up to %.0f s to see whether it still runs", model, last, STALE_S)
        for _ in range(int(STALE_S / BEAT_S)):
            self._wait(BEAT_S)
            if self._counter(epoch) == -1:
                return True
            if self._counter(epoch) != first:
                return False
        log.info("model %s: %s no longer runs; this command takes over", model, last)
        return True

    def _holder(self, epoch: int) -> dict:
        return json.loads(self._epochs.get(epoch))

    def _who(self, epoch: int) -> str:
        holder = self._holder(epoch)
        return f"{holder['pid']} on {holder['host']}"

    def _counter(self, epoch: int) -> int:
        try:
            return int(self._ledger.store.get(beat_key(self._ledger, epoch)))
        except Gone:
            return 0

    def _beat(self, counter: int) -> None:
        self._ledger.store.put(beat_key(self._ledger, self._epoch), str(counter).encode())

    def _beat_until_stopped(self) -> None:
        counter = 0
        while not self._stop.wait(BEAT_S):
            counter += 1
            try:
                self._beat(counter)
            except StorageError:
                continue  # a failed beat counts as missed; the run itself finds out what is wrong


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(psutil.boot_time())


def _started(pid: int) -> float | None:
    """Tells a process from a later one with the same number; None without a process. Setting the clock does not change it."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return process.create_time()
        return float(stat.read_text().rpartition(")")[2].split()[19])  # ticks since boot; psutil adds the wall clock to them
    except (psutil.NoSuchProcess, OSError):
        return None
