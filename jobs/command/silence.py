"""What is said while work goes on that nobody counts: a long silence looks like a command that hangs."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_S = 10.0
LOOK_S = 2.0


@dataclass(frozen=True)
class Doing:
    """What is being done, since when by the progress's clock, and how much of it; total 0: nobody knows how much it is."""

    what: str
    since: float
    done: int = 0
    total: int = 0
    unit: str = "images"

    def text(self, now: float, duration: Callable[[float], str]) -> str:
        """`whitening, 64/120 images, 7 s left`, or `whitening, for 12 s`."""
        parts = [self.what]
        if self.total:
            parts.append(f"{self.done:,}/{self.total:,} {self.unit}")
        if 0 < self.done < self.total:
            parts.append(f"{duration((now - self.since) * (self.total - self.done) / self.done)} left")
        else:
            parts.append(f"for {duration(now - self.since)}")
        return ", ".join(parts)


class Ticker:
    """Calls a function again and again, in a thread, from start to stop."""

    def __init__(self, call: Callable[[], None], every_s: float = LOOK_S) -> None:
        self._call, self._every_s = call, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flowscore-ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no call is under way and none will come."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._call()
