"""SIGTERM, which `ray job stop` and Kubernetes send, ends a command as Ctrl-C does: in order, and a lease is given back."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Stopping:
    """A context manager: in its block SIGTERM raises KeyboardInterrupt in the main thread, once.

    It is KeyboardInterrupt because Ray's core passes on no other exception out of its waits. received: whether it came.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.received:  # whoever stops a job may send it to the shell too, which passes it on
            self.received = True
            raise KeyboardInterrupt
