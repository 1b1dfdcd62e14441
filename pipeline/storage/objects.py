"""Terms that all stores share: the listed object, its faults, and how often a fault is tried again."""

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

Result = TypeVar("Result")

ATTEMPTS = 7
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0
RANGE_BYTES = 16 << 20  # one request of a streamed read
SKEWED = "RequestTimeTooSkewed"  # S3's code for a request signed 15 minutes off; it passes once something sets the clock
WRONG_CLOCK = "the clock of this machine differs from storage's. Set it; NTP keeps it right"


class Object(NamedTuple):
    """One listed object: key below the store's URI, size in bytes, etag without quotes."""

    key: str
    size: int
    etag: str


class StorageError(Exception):
    """A request that the storage did not fulfil; the message names the object."""


class BadUri(StorageError, ValueError):
    """A URI or an environment from which no store can be opened."""


class Gone(StorageError):
    """The object does not exist (any more)."""


class Changed(StorageError):
    """The object is no longer the one with the given etag."""


class Denied(StorageError):
    """The storage refuses: no access, no such bucket, no credentials, read-only or full. Trying again does not help."""


class Unreachable(StorageError):
    """No useful answer after all attempts: timeouts, name resolution, throttling, 5xx."""


class Lists(Protocol):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]: ...


def listed(store: Lists, key: str) -> Object | None:
    """The object of exactly this key, as a listing gives it; None when there is none. One request."""
    found = next(iter(store.list(key)), None)  # a key sorts before every longer key that begins with it
    return found if found is not None and found.key == key else None


def retry(call: Callable[[], Result], attempts: int = ATTEMPTS) -> Result:
    """The result of `call`, called again after `Unreachable`, at most `attempts` times in all.

    Waits grow from 0.25 s by a factor of two up to 10 s, each multiplied by a random factor in [0.5, 1), so that many
    workers do not come back at the same moment.
    """
    wait_s = FIRST_WAIT_S
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Unreachable:
            if attempt == attempts:
                raise
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    raise AssertionError("attempts must be at least 1")
