"""Measures how long a device was idle, and why."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

CAUSES = ("load", "wait", "host")


class IdleClock:
    """Idle seconds of one device since this clock was made, by cause.

    load: its model was loading. wait: its process had room for a unit and none was there, so something
    before it (storage, decoding, Ray) was too slow. host: its process had as many units as it takes and was unpacking or
    packing them.
    Together with the busy seconds they add up to the time from the clock's creation to the last unit's end.

    Args:
        units: how many units the process takes at once.
        now: the clock, s.
    """

    def __init__(self, units: int, now: Callable[[], float] = time.perf_counter):
        self._units, self._now = units, now
        self._capacity = 1
        self._inside = self._busy = self._loading = 0
        self._seconds = dict.fromkeys(CAUSES, 0.0)
        self._since = now()
        self._lock = threading.Lock()

    def set_capacity(self, batches: int) -> None:
        """Set how many batches the device computes at once: the threads of a CPU; 1, the default, for a GPU."""
        with self._lock:
            self._pass()
            self._capacity = batches

    @contextlib.contextmanager
    def unit(self) -> Iterator[dict[str, float]]:
        """A unit is in the process. The block's end fills the dict with the idle seconds by cause since the last end."""
        taken: dict[str, float] = {}
        self._change("_inside", 1)
        try:
            yield taken
        finally:
            with self._lock:
                self._pass()
                self._inside -= 1
                taken.update(self._seconds)
                self._seconds = dict.fromkeys(CAUSES, 0.0)

    def computing(self) -> contextlib.AbstractContextManager[None]:
        """A batch is with the device."""
        return self._counted("_busy")

    def loading(self) -> contextlib.AbstractContextManager[None]:
        """The model is being loaded."""
        return self._counted("_loading")

    @contextlib.contextmanager
    def _counted(self, count: str) -> Iterator[None]:
        self._change(count, 1)
        try:
            yield
        finally:
            self._change(count, -1)

    def _change(self, count: str, by: int) -> None:
        with self._lock:
            self._pass()
            setattr(self, count, getattr(self, count) + by)

    def _pass(self) -> None:
        """Add the time since the last change to its cause."""
        now = self._now()
        share = max(0, self._capacity - self._busy) / self._capacity
        cause = "load" if self._loading else "wait" if self._inside < self._units else "host"
        self._seconds[cause] += share * (now - self._since)
        self._since = now
