"""Look-ahead: the next results are made while the current one is used, and they come in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat, takewhile
from typing import TypeVar

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Result = TypeVar("Result")


def in_order(
    begin: Callable[[Item], Begun], items: Iterable[Item], end: Callable[[Begun], Result], count: int
) -> Iterator[Result]:
    """The result of every item, in order; while one is used, at most `count` of the next are under way.

    Args:
        begin: starts the work on an item and does not wait for it.
        end: waits for what `begin` returned. Its error is raised in the item's place.
    """
    waiting: deque[Begun] = deque()
    for item in items:
        waiting.append(begin(item))
        if len(waiting) > count:
            yield end(waiting.popleft())
    while waiting:
        yield end(waiting.popleft())


def threads_ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """`in_order` with `count` threads. An abandoned iteration waits for what is under way and drops it."""
    with ThreadPoolExecutor(count, "ahead") as pool:
        try:
            yield from in_order(lambda item: pool.submit(work, item), items, Future.result, count)
        finally:
            pool.shutdown(cancel_futures=True)


def ahead(items: Iterator[Item], count: int) -> Generator[Item]:
    """The items in order, made by a separate thread that is at most `count` items ahead; no item may be None."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        try:
            made = in_order(lambda _: pool.submit(next, items, None), repeat(None), Future.result, count)
            yield from takewhile(lambda item: item is not None, made)
        finally:
            pool.shutdown(cancel_futures=True)
