"""Shows progress of long work: a bar on a terminal, one plain line with its time every few seconds anywhere else."""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from jobs.command.log import stamped
from jobs.command.silence import LONGEST_S, Doing, Ticker

BAR_CELLS = 24
RATE_WINDOW_S = 30.0


class Progress:
    """Shows done of planned, rate, errors and time left.

        with Progress("scoring", total=20_000) as progress:
            progress.update(done=128, errors=1)
            progress.note("publishing")

    No work stays without a line for more than about ten seconds: if nothing is counted, a thread says what `note` has told.

    Args:
        label: name of the work.
        total: how many are planned; None while this is unknown.
        unit: plural noun of what is counted.
        failed: what is said behind the count of errors; None where nothing can fail by itself.
        every_s: seconds between two plain lines; a bar is redrawn up to five times a second.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str = "images",
        failed: str | None = "not readable",
        every_s: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit, self.failed, self.clock = label, total, unit, failed, clock
        self.ended_with: int | None = None
        self.stream = stream or sys.stderr
        self.bar = self.stream.isatty()
        self.every_s = 0.2 if self.bar else every_s
        self.started = clock()
        self.shown_at: float | None = None
        self.marks: deque[tuple[float, int, float | None]] = deque()
        self.line = self.shown = ""
        self.doing: Doing | None = None
        self.lock = threading.Lock()  # the thread writes lines too
        self.ticker = Ticker(self.still)

    def __enter__(self) -> Self:
        self.ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ticker.stop()
        if self.line and self.line != self.shown:
            self._show()
        if self.bar and self.shown:
            self.stream.write("\n")
            self.stream.flush()

    def update(
        self, done: int, errors: int = 0, total: int | None = None, fraction: float | None = None, **values: float
    ) -> None:
        """Take the counts so far (not increments).

        Args:
            done: count so far, including an earlier attempt's; the rate starts from the first call's.
            errors: how many of them failed.
            total: replaces the planned number once it is known or has grown.
            fraction: share of the work done, if it is known without `total` (bytes read of bytes planned).
            values: further numbers to show, for example loss=0.12.
        """
        now = self.clock()
        self.total = self.total if total is None else total
        if fraction is None and self.total:
            fraction = done / self.total
        if fraction is not None and fraction >= 1.0:
            if done == self.ended_with:  # the last line is made, and another would say a lower rate
                return
            self.ended_with = done
        self.marks.append((now, done, fraction))
        while len(self.marks) > 2 and now - self.marks[0][0] > RATE_WINDOW_S:
            self.marks.popleft()
        with self.lock:
            self.doing = None
            self.line = self._line(now, done, errors, fraction, values)
            if self.shown_at is None or now - self.shown_at >= self.every_s:
                self.shown_at = now
                self._show()

    def note(self, what: str, done: int = 0, total: int = 0, unit: str = "images") -> None:
        """What is being done until the next update, and how much of it; it is shown only if that takes long."""
        with self.lock:
            since = self.doing.since if self.doing and self.doing.what == what and done else self.clock()
            self.doing = Doing(what, since, done, total, unit)

    def still(self) -> None:
        """Say what is being done if no line was shown for ten seconds. A thread calls this every few seconds."""
        with self.lock:
            now = self.clock()
            last = self.started if self.shown_at is None else self.shown_at
            if now - last < LONGEST_S:
                return
            self.shown_at = now
            counted_at = self.marks[-1][0] if self.marks else self.started
            if counted_at > last:  # what was counted meanwhile says more
                self._show()
                return
            doing = self.doing or Doing("still at work", counted_at)
            counted, self.line = self.line, f"{self.label}: {doing.text(now, duration)}"
            self._show()
            self.line = counted

    def end_bar(self) -> None:
        """End the line of a bar that is shown, so that what others print has one of its own; the bar comes again below it."""
        with self.lock:
            if self.bar and self.shown:
                self.stream.write("\n")
                self.stream.flush()
                self.shown = ""

    def _line(self, now: float, done: int, errors: int, fraction: float | None, values: dict[str, float]) -> str:
        then, done_then, fraction_then = self.marks[0]
        elapsed = now - then
        of = f"/{self.total:,}" if self.total else ""
        parts = [f"{done:,}{of} {self.unit}"]
        if fraction is not None:
            parts.append(f"{int(100 * min(fraction, 1.0))}%")
        if elapsed > 0:
            parts.append(f"{(done - done_then) / elapsed:,.1f} {self.unit}/s")
        if self.failed is not None:
            parts.append(f"{errors:,} {self.failed}")
        parts += [f"{name} {value:.4g}" for name, value in values.items()]
        if fraction is not None and fraction >= 1.0:
            parts.append(f"took {duration(now - self.started)}")
        elif fraction is not None and fraction_then is not None and fraction > fraction_then:
            parts.append(f"{duration((1.0 - fraction) * elapsed / (fraction - fraction_then))} left")
        text = f"{self.label}: {', '.join(parts)}"
        if not self.bar:
            return text
        filled = round(BAR_CELLS * min(fraction or 0.0, 1.0))
        return f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {text}"

    def _show(self) -> None:
        if self.bar:
            columns = shutil.get_terminal_size().columns - 1
            self.stream.write("\r" + self.line.ljust(len(self.shown))[:columns])
        else:
            self.stream.write(stamped(self.line, self.stream) + "\n")
        self.stream.flush()
        self.shown = self.line


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
