"""Scores the open units of a slice with an engine, as one stream; tries once more at the end what storage did not give."""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

from pipeline.stages.config import StageConfig
from pipeline.state import slices
from pipeline.state.commits import pending
from pipeline.state.lease import Lease
from pipeline.storage.objects import Denied, Unreachable
from pipeline.storage.store import Store
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

log = logging.getLogger(__name__)

ASK_AGAIN_S = 5.0

MOST_ALONE = 1000
"""Work units whose workers died that one command scores alone; of more, the fault is hardly an image's."""

Stream = Callable[[Iterable[WorkItem], StageConfig], Iterator[Outcome]]
Job = TypeVar("Job")
Result = TypeVar("Result")


class Engine(Protocol):
    """Moves work items through the stages and maps publication's jobs; a run uses RayEngine of pipeline/stages."""

    def start(self) -> object: ...
    def stream(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]: ...
    def alone(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]: ...
    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job], memory_bytes: int = 0) -> Iterable[Result]: ...


@dataclass
class RunProgress:
    """Counts so far of one slice: images planned (streams add theirs as they are read), done and failed. What earlier commands
    did counts as done where it is known from the plan, so not of streams, and their bytes count as read; their errors are not
    known.

    slice: its name.  goes_on: an earlier command has worked on it.  scored_on: what this command's images were scored on.
    ended: this command scores no more of it.  finished: nothing of it is open either.
    """

    slice: str = ""
    goes_on: bool = False
    planned: int = 0
    streams: int = 0
    size: int = 0
    done: int = 0
    errors: int = 0
    bytes_read: int = 0
    ended: bool = False
    finished: bool = False
    open: dict[int, str] = field(default_factory=dict)
    scored_on: set[str] = field(default_factory=set)

    def take(self, outcome: Outcome) -> None:
        if outcome.message is not None:
            self.open[outcome.number] = outcome.message
            return
        self.done += outcome.scored + outcome.errors
        self.errors += outcome.errors
        self.bytes_read += outcome.bytes_read
        if outcome.scored_on is not None and outcome.scored:
            self.scored_on.add(outcome.scored_on)


class Found(NamedTuple):
    """What earlier commands have committed: images of units that are no streams, and bytes of all units."""

    images: int
    size: int


OnProgress = Callable[[RunProgress], None]


@dataclass(frozen=True)
class Patience:
    """window_units: units whose commits are listed at once.  outage_s: how long to wait for storage that does not answer."""

    window_units: int
    outage_s: float


def score_units(
    config: StageConfig,
    units: int,
    scoring: int,
    engine: Engine,
    lease: Lease,
    input_store: Store,
    patience: Patience,
    progress: RunProgress,
    on_progress: OnProgress,
) -> dict[int, str]:
    """Score what is open of the units 0 to `units` that the slice's settings number `scoring` score.

    Returns:
        The units that stay open, each with its reason.
    Raises:
        LeaseLost: another driver has the ledger.  Unreachable: storage did not answer for longer than `outage_s`.
    """
    size = patience.window_units
    windows = [(first, min(first + size, units)) for first in range(0, units, size)]

    def both_answer() -> None:
        lease.check()
        next(iter(input_store.list()), None)

    def wait_out() -> None:
        wait_for_storage(both_answer, patience.outage_s)

    def open_items(found: deque[Found]) -> Iterator[WorkItem]:
        return _open_items(config, scoring, windows, lease, wait_out, found)

    def score(items: Iterator[WorkItem], stream: Stream, found: deque[Found]) -> list[WorkItem]:
        """Returns what is open after it."""
        _score_items(items, config, engine.start, stream, wait_out, progress, found, on_progress)
        return list(open_items(deque()))

    found: deque[Found] = deque()  # filled by the engine's thread
    left = score(open_items(found), engine.stream, found)
    if again := [item for item in left if item.number in progress.open]:
        left = score(iter(again), engine.stream, deque())
    if lost := [item for item in left if item.number not in progress.open][:MOST_ALONE]:
        text = "%s: %d work units are without an outcome, since workers died: scoring each alone"
        log.warning(text, progress.slice, len(lost))
        left = score(iter(lost), engine.alone, deque())
    return {item.number: progress.open.get(item.number, "its worker died") for item in left}


def _open_items(
    config: StageConfig,
    scoring: int,
    windows: list[tuple[int, int]],
    lease: Lease,
    wait_out: Callable[[], None],
    found: deque[Found],
) -> Iterator[WorkItem]:
    """What is open of one model's units, listed a window at a time; `found` gets what is committed of each.
    Every window begins with a look at the lease.

    Raises:
        LeaseLost: another driver has the ledger.
        Unreachable: storage did not answer, even after waiting.
    """

    def window(first: int, end: int) -> list[WorkItem]:
        lease.check()
        units = [unit for unit in slices.outlines(config.ledger, config.slice, first, end) if unit.scoring == scoring]
        items = list(pending(config.ledger, config.slice, units))
        read_to = {item.number: item.offset for item in items}  # within a stream; 0 for other units
        images = sum(unit.images or 0 for unit in units if unit.number not in read_to)
        found.append(Found(images, sum(min(unit.size, read_to.get(unit.number, unit.size)) for unit in units)))
        return items

    for first, end in windows:
        try:
            yield from window(first, end)
        except Unreachable:
            wait_out()
            yield from window(first, end)


def _score_items(
    items: Iterator[WorkItem],
    config: StageConfig,
    start: Callable[[], object],
    stream: Stream,
    wait_out: Callable[[], None],
    progress: RunProgress,
    found: deque[Found],
    on_progress: OnProgress,
) -> None:
    """One stream for all items; nothing starts when there are none."""

    def take_found() -> None:
        while found:
            before = found.popleft()
            progress.done += before.images
            progress.bytes_read += before.size

    for item in items:
        start()
        take_found()
        on_progress(progress)
        for outcome in stream(chain([item], items), config):
            take_found()
            progress.take(outcome)
            if outcome.message is not None:
                wait_out()
            on_progress(progress)
    take_found()


def wait_for_storage(ask: Callable[[], object], outage_s: float) -> None:
    """Returns once storage answers, even with a refusal. A unit was left open, for its own reason or one that all share.

    Raises Unreachable when `outage_s` seconds have passed: waiting for each unit in turn would take days.
    """
    until = time.monotonic() + outage_s
    said = False
    while True:
        try:
            with contextlib.suppress(Denied):
                ask()
            return
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            if not said:
                log.warning("storage does not answer; waiting up to %.0f s for it. %s", outage_s, error)
                said = True
        time.sleep(ASK_AGAIN_S)
