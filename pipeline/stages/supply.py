"""Carries work items from the driver, which lists them bit by bit, into a Ray Data execution that runs meanwhile.

Ray Data wants all input when an execution starts. So its input is one task, `feed`, that runs as long as there are items:
it takes them from an actor, and a thread of the driver gives them to the actor.
"""

import asyncio
import threading
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice
from typing import Any, Self

import pyarrow as pa
import ray

from schemas.envelope import WorkItem, item_table
from schemas.outcome import Outcome

AHEAD_ITEMS = 32_768
"""Items in Ray of which nothing was heard yet: sixteen for each of 2,000 cores, whatever the number that slow streams hold. The
driver needs about 6 kB for eight of them."""

ITEMS_PER_TASK = 8


class Handover:
    """The actor between driver and `feed`. It keeps all items, 30 bytes each: Ray may run the feed's task again, and that
    must yield what it yielded at first."""

    def __init__(self) -> None:
        self._handfuls: list[bytes] = []
        self._ended = False
        self._given = asyncio.Event()

    async def give(self, handful: bytes) -> None:
        self._handfuls.append(handful)
        self._given.set()

    async def end(self) -> None:
        self._ended = True
        self._given.set()

    async def take(self, first: int) -> list[bytes]:
        """All handfuls from number `first` on, at least one; none after the last."""
        while len(self._handfuls) <= first and not self._ended:
            self._given.clear()
            await self._given.wait()
        return self._handfuls[first:]


class Supply:
    """Gives items to a new actor while it is open; a context manager.

    A thread draws the items, so that listing them and working on them do not wait for each other. Ahead of what was heard of
    it is at most `ahead` items.

    Args:
        items: an error that it raises ends the supply; `heard` and `finish` raise it.
        cores: of the cluster. The first items go to tasks one by one, until four tasks a core have some.

    given: whether all items were given.
    """

    def __init__(self, items: Iterable[WorkItem], cores: float, ahead: int = AHEAD_ITEMS) -> None:
        self._items, self._cores = items, cores
        self._room = threading.Semaphore(ahead)
        self._waiting: set[int] = set()
        self._closed = self.given = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._give_all, name="flowscore-supply", daemon=True)
        self.handover: Any = ray.remote(Handover).options(num_cpus=0, label_selector=here()).remote()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Does not wait for the thread, which may be in the middle of a long listing: it stops at the next item."""
        self._closed = True
        self._room.release()
        ray.kill(self.handover)

    def heard(self, outcome: Outcome) -> None:
        """Makes room for an item when the first outcome of one arrives. Every item has at least one."""
        if outcome.number in self._waiting:
            self._waiting.remove(outcome.number)
            self._room.release()
        self.finish()

    def finish(self) -> None:
        """Raises what the items raised."""
        if self._error is not None:
            raise self._error

    def _give_all(self) -> None:
        try:
            for handful in handfuls(self._items, self._cores):
                for item in handful:
                    self._room.acquire()
                    if self._closed:
                        return
                    self._waiting.add(item.number)
                ray.get(self.handover.give.remote(_packed(handful)))  # such an actor does not keep the order of its calls
            self.given = True
        except BaseException as error:  # raised again in the thread that reads the outcomes
            self._error = error
        if not self._closed:
            self.handover.end.remote()


def handfuls(items: Iterable[WorkItem], cores: float) -> Iterator[tuple[WorkItem, ...]]:
    """The items of each task of reading: one at first, so that few items occupy all cores, later up to `ITEMS_PER_TASK`."""
    rest = iter(items)
    for number in count():
        size = min(1 + number // max(1, int(4 * cores)), ITEMS_PER_TASK)
        handful = tuple(islice(rest, size))
        if not handful:
            return
        yield handful


def feed(_: pa.Table, handover: Any) -> Iterator[pa.Table]:
    """The items of one task of reading in each table, as they are given. It occupies no core.

    Args:
        handover: handle of the actor `Handover`.
    """
    number = 0
    while taken := ray.get(handover.take.remote(number)):
        number += len(taken)
        yield from (item_table(_unpacked(handful)) for handful in taken)


def here() -> dict[str, str]:
    """Places a task or actor on the driver's own node, which is lost only together with the driver."""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def _packed(items: Iterable[WorkItem]) -> bytes:
    return array("q", chain.from_iterable(items)).tobytes()


def _unpacked(packed: bytes) -> list[WorkItem]:
    cells = iter(memoryview(packed).cast("q"))
    return [WorkItem(*item) for item in zip(*[cells] * len(WorkItem._fields), strict=True)]
