"""Notices when a device hangs: a call to it never returns then, and raises nothing."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

BATCH_S = 300.0
"""For a batch that the device has: seconds at most, also after those of two other lanes and where kernels compile at first."""

LONG_S = 1800.0
"""For loading a model, which takes up to a minute, and for explaining the images of a batch, which takes many passes."""

LOOK_EVERY_S = 1.0


class Watchdog:
    """Calls `hung` with a sentence from a thread of its own when something takes longer than its limit, once for each.

    Python cannot end a thread that waits for a device, so `hung` has to end the process.
    """

    def __init__(self, hung: Callable[[str], object], look_every_s: float = LOOK_EVERY_S) -> None:
        self._hung, self._look_every_s = hung, look_every_s
        self._ends: dict[object, tuple[float, str]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._look, name="flowscore-watchdog", daemon=True).start()

    @contextlib.contextmanager
    def over(self, work: str, limit_s: float) -> Iterator[None]:
        """The block is what may take so long."""
        mine = object()
        with self._lock:
            self._ends[mine] = (time.monotonic() + limit_s, f"the device hangs: {work} took longer than {limit_s:g} s")
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(mine, None)

    def _look(self) -> None:
        never = threading.Event()
        while not never.wait(self._look_every_s):
            now = time.monotonic()
            with self._lock:
                late = [mine for mine, (end, _) in self._ends.items() if end < now]
                said = [self._ends.pop(mine)[1] for mine in late]
            for sentence in said:
                self._hung(sentence)


def over(watch: Watchdog | None, work: str, limit_s: float) -> contextlib.AbstractContextManager[None]:
    """Nothing happens without a watchdog: a CPU does not hang."""
    return contextlib.nullcontext() if watch is None else watch.over(work, limit_s)
