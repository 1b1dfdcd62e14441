"""Terms that all stores share: the listed object, its faults, and how often a fault is tried again."""

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

Result = TypeVar("Result")

ATTEMPTS = 7
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0
REFUSAL_WAITS_S = (0.2, 1.0)  # before the second and the last try of an object that is refused
RANGE_BYTES = 16 << 20  # one request of a streamed read
PROBE = ".flowscore-probe"  # how the name begins of an object that only tries a place; it may stay there
SKEWED = "RequestTimeTooSkewed"  # S3's code for a request signed 15 minutes off; it passes once something sets the clock
WRONG_CLOCK = "the clock of this machine differs from storage's. Set it; NTP keeps it right"


class Object(NamedTuple):
    """One listed object.

    key: below the store's URI.  size: bytes.  etag: without quotes.
    stamp: what else the listing says that changes once a refused object is made readable: on S3 `GLACIER:1767225600`, the
    storage class (blank for STANDARD) and the modification time in seconds; on a disk the change time, ns in hex.
    """

    key: str
    size: int
    etag: str
    stamp: str = ""


class Page(NamedTuple):
    """The answer to one LIST.

    objects: in key order.  folders: prefixes with their last slash, in order; only if keys were folded into them.
    token: names the next page; None on the last.
    """

    objects: list[Object]
    folders: list[str]
    token: str | None


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


class Refused(Denied):
    """The storage refuses to deliver one object: its ACL, policy, encryption key or file mode; not the account as a whole."""


class Archived(Refused):
    """The object is in a storage class from which it must be restored before it can be read."""


class Unreachable(StorageError):
    """No useful answer after all attempts: timeouts, name resolution, throttling, 5xx."""


class Lists(Protocol):
    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]: ...


def listed(store: Lists, key: str) -> Object | None:
    """The object of exactly this key, as a listing gives it; None when there is none. One request."""
    found = next(iter(store.list(key)), None)  # a key sorts before every longer key that begins with it
    return found if found is not None and found.key == key else None


def folders(store: Lists, prefix: str) -> Iterator[str]:
    """The names of the folders below a prefix that ends in a slash, ascending; one request for each and one more."""
    start_after = None
    while entry := next(iter(store.list(prefix, start_after=start_after)), None):
        name = entry.key[len(prefix) :].split("/", 1)[0]
        yield name
        start_after = f"{prefix}{name}/\U0010ffff"


def unless_refused(read: Callable[[], Result], store: Lists, key: str, etag: str | None) -> Result:
    """The result of `read`, which requests an object that was listed with `etag`.

    Raises Refused only when three tries were refused, and a listing between the last two shows the object as it was: a
    storage that refuses everything for a while, or an account that expired, is Denied. Raises Archived at once.
    """
    for wait_s in REFUSAL_WAITS_S:
        try:
            return read()
        except Archived:
            raise
        except Refused:
            if etag is None:
                raise
        time.sleep(wait_s * random.uniform(0.5, 1.0))
    found = listed(store, key)  # raises Denied when the listing is refused too
    try:
        return read()
    except Refused as refused:
        if found is None or found.etag != etag:
            raise Denied(f"{refused}; it is no longer listed as it was") from refused
        raise


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
