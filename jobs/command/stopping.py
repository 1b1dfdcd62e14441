"""SIGTERM, which `ray job stop` and Kubernetes send, ends a command as Ctrl-C does: in order, and a lease is given back."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SAME_S = 2.0
"""Signals within so many seconds are one: whoever stops a job may send it to the shell too, which passes it on."""


class Stopping:
    """A context manager: in its block SIGTERM raises KeyboardInterrupt in the main thread, and again if it comes again later:
    Python swallows what is raised while it deletes an object.

    It is KeyboardInterrupt because Ray's core passes on no other exception out of its waits. received: whether it came.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._raised_at: float | None = None
        self._before: Any = None

    @property
    def received(self) -> bool:
        return self._raised_at is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if self._raised_at is None or now - self._raised_at > SAME_S:
            self._raised_at = now
            raise KeyboardInterrupt
