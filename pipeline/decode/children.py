"""The decoder children of one scorer, shared out among its calls, so that each unit has some of its own and none waits for
another's last image."""

import contextlib
from collections.abc import Iterator
from queue import SimpleQueue

from pipeline.decode.config import DecodeConfig
from pipeline.decode.tiles import InChild


class Children:
    """A child starts with its first image and holds one picture at a time.

    Args:
        count: of the children.
        calls: most units at once; with fewer children than that, units take turns.
    """

    def __init__(self, config: DecodeConfig, timeout_s: float, count: int, calls: int) -> None:
        children = [InChild(config, timeout_s) for _ in range(count)]
        self._sets: SimpleQueue[list[InChild]] = SimpleQueue()
        for first in range(min(count, calls)):
            self._sets.put(children[first :: min(count, calls)])

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[InChild]]:
        """Children that no other call has; waits for them."""
        mine = self._sets.get()
        try:
            yield mine
        finally:
            self._sets.put(mine)
