"""A proxy before an S3 server that loses answers, ends connections and tells the times of a moved clock."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from urllib.parse import unquote

from fault_proxy import Fault, FaultProxy, Request
from moved_clock import BEFORE, MovedClock

FOR_EVER = 10**9
ENTRY = re.compile(rb"<Key>([^<]*)</Key><LastModified>([^<]*)</LastModified>")


class MovedProxy(FaultProxy):
    """Listings say the times of a moved clock. made: is told every key below `output/` that is put."""

    def __init__(self, upstream: str, clock: MovedClock, made: Callable[[str], None]) -> None:
        super().__init__(upstream)
        self._clock, self._made = clock, made
        self._put_at: dict[str, timedelta] = {}  # how far the clock had moved when a key was put

    @contextmanager
    def lost(self, writes: bool) -> Iterator[None]:
        """The answer to the next request does not come; writes: to the next one that changes something."""
        self.arm(Fault("drop_answer", 0, writes=writes))
        try:
            yield
        finally:
            self.arm()

    @contextmanager
    def cut(self, at: int) -> Iterator[None]:
        """No request from the one of that number on reaches the server."""
        self.arm(Fault("drop", at, FOR_EVER))
        try:
            yield
        finally:
            self.arm()

    def write_down(self, request: Request) -> None:
        super().write_down(request)
        if request.method == "PUT" and request.done:
            key = request.key.partition("/")[2]
            self._put_at.setdefault(key, self._clock.moved)
            self._made(key.removeprefix("output/"))

    def answered(self, content: bytes) -> bytes:
        return ENTRY.sub(self._dated, content)

    def _dated(self, entry: re.Match[bytes]) -> bytes:
        """As MovedClock does on a disk: data files are of the moved clock; logs are of the machine's, and get older with it."""
        key, modified = unquote(entry[1].decode()), datetime.fromisoformat(entry[2].decode())
        then = self._put_at.get(key, timedelta())
        if "/_delta_log/" in key:
            modified -= self._clock.moved - then
        else:
            modified += then - BEFORE
        stamp = modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return b"<Key>%s</Key><LastModified>%s</LastModified>" % (entry[1], stamp.encode())
