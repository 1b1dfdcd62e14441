"""Numbered objects that are never overwritten: each number belongs to whoever puts its object first.

A key begins with the number counted down from LAST, so that a listing shows the newest object first: one request finds the
newest number after any number of nights. The number itself follows, for people: `9999/999987-000012.json`. A folder holds a
hundred of them, since a local disk lists a folder as a whole.
"""

from dataclasses import dataclass
from itertools import takewhile

from pipeline.storage.store import Store

LAST = 999_999
IN_A_FOLDER = 100


@dataclass(frozen=True)
class Numbered:
    """The objects `<prefix>/<folder>/<LAST - n>-<n>.json`, n = 1, 2, ..."""

    store: Store
    prefix: str

    def key(self, number: int) -> str:
        down = LAST - number
        return f"{self.prefix}/{down // IN_A_FOLDER:04d}/{down:06d}-{number:06d}.json"

    def newest(self) -> int:
        """The highest number that exists; 0 without any. Beside an object may be one of its name that ends in other letters."""
        first = next(iter(self.store.list(f"{self.prefix}/")), None)
        return _number(first.key) if first else 0

    def after(self, number: int) -> list[int]:
        """The numbers above `number` that exist, ascending."""
        listed = (_number(entry.key) for entry in self.store.list(f"{self.prefix}/"))
        return sorted(takewhile(lambda found: found > number, listed))

    def put_new(self, number: int, body: bytes) -> bool:
        """False when the number is taken, perhaps by ourselves in an attempt whose answer was lost."""
        return self.store.put_new(self.key(number), body)

    def get(self, number: int) -> bytes:
        """Raises Gone when the number does not exist."""
        return self.store.get(self.key(number))


def _number(key: str) -> int:
    return int(key[-11:-5])
