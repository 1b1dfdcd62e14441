"""Counts how many threads are inside a piece of work at once."""

import time


class AtOnce:
    """Call it as the work. most: how many were inside at each call."""

    def __init__(self) -> None:
        self._inside: list[int] = []
        self.most: list[int] = []

    def __call__(self) -> None:
        self._inside.append(1)
        self.most.append(len(self._inside))
        time.sleep(0.005)
        self._inside.pop()
