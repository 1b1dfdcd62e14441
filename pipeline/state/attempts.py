"""The drivers that have worked on a slice, and for how long: each leaves one object, which it rewrites while it works."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Set
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple

from pipeline.state.ledger import Ledger
from pipeline.storage.objects import StorageError

NOTED_EVERY_S = 10.0
STOP_S = 1.0
"""A command that is stopped waits no longer for its last note: it has three seconds to give its lease back."""


class Attempts(NamedTuple):
    """drivers: so many so far.  started_at: when the first took the slice up; None without any.  spent_s: of all, added up.
    scored_on: the devices that scored, in words, as far as the drivers heard of them."""

    drivers: int
    started_at: datetime | None
    spent_s: float
    scored_on: frozenset[str] = frozenset()


class Attempt:
    """One driver's work on a slice; a context manager. A thread notes its time, so that a killed driver loses at most the last
    `NOTED_EVERY_S` seconds, however rarely anything is finished. The last note is the thread's too.

    goes_on: whether another driver has worked on the slice before; known inside.
    """

    def __init__(self, ledger: Ledger, slice_number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._slice, self._clock = ledger, slice_number, clock
        self._started = datetime.now(UTC)
        self._began = clock()
        self._key = ""
        self._scored_on, self._earlier = frozenset[str](), frozenset[str]()
        self._ended, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._write_until_ended, name="flowscore-attempt", daemon=True)
        self.goes_on = False

    def __enter__(self) -> "Attempt":
        before = read_attempts(self._ledger, self._slice)
        self._earlier, number = before.scored_on, before.drivers + 1
        self.goes_on = before.drivers > 0
        while not self._ledger.store.put_new(self._named(number), self._text()):
            number += 1
        self._key = self._named(number)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(None if kind is None else STOP_S)

    def note(self, scored_on: Set[str]) -> str | None:
        """Writes down at once what scores.

        Args:
            scored_on: the devices that have scored in this attempt so far, in words.
        Returns:
            A line, once for each device that none of the earlier drivers had, if those scored anything.
        """
        new = scored_on - self._scored_on
        if new:
            self._scored_on |= new
            self._write()
        others = sorted(new - self._earlier) if self._earlier else []
        if not others:
            return None
        return (
            f"{self._ledger.slice_name(self._slice)}: images are now scored on {' and on '.join(others)}; earlier commits of "
            f"the slice were scored on {' and on '.join(sorted(self._earlier))}. Scores are equal bit for bit on one "
            "kind of device only"
        )

    def _write(self) -> None:
        with (
            self._writing,
            contextlib.suppress(StorageError),
        ):  # a figure for people; the work finds out what is wrong
            self._ledger.store.put(self._key, self._text())

    def _write_until_ended(self) -> None:
        while not self._ended.wait(NOTED_EVERY_S):
            self._write()
        self._write()

    def _text(self) -> bytes:
        spent_s = self._clock() - self._began
        known = {"started_at": self._started.isoformat(), "spent_s": spent_s, "scored_on": sorted(self._scored_on)}
        return json.dumps(known).encode()

    def _named(self, number: int) -> str:
        return f"{_prefix(self._ledger, self._slice)}{number:04d}.json"


def read_attempts(ledger: Ledger, slice_number: int) -> Attempts:
    """All that is known of the drivers of a slice."""
    found = [json.loads(ledger.store.get(entry.key)) for entry in ledger.store.list(_prefix(ledger, slice_number))]
    started = min((datetime.fromisoformat(attempt["started_at"]) for attempt in found), default=None)
    scored_on = frozenset(name for attempt in found for name in attempt.get("scored_on", ()))
    return Attempts(len(found), started, sum(attempt["spent_s"] for attempt in found), scored_on)


def _prefix(ledger: Ledger, slice_number: int) -> str:
    return f"{ledger.prefix}/attempts/{slice_number:06d}/"
