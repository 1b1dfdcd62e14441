"""Lists a bucket by folders, many requests at a time, in exactly the order of the serial listing.

A serial LIST waits for each page of 1,000 keys. Here a page that is mostly one folder shows that there is much below it:
the rest is asked for by folder, and each folder is listed by itself. Small or flat folders stay one serial listing, since a
request for each of them would cost more than it saves.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from pipeline.storage.objects import Object, Page, StorageError
from pipeline.storage.s3 import S3Store
from pipeline.storage.store import Store

THREADS = 16
OBJECTS_AHEAD = 200_000  # about 80 MB
PAGE_OBJECTS = 1000  # of one request, at most
WORTH = 0.25  # share of a page that one folder must have so that folders are listed each by itself
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # Ceph answers 500 to a prefix with such a character


class Pages(Protocol):
    def page(self, prefix: str, token: str | None = None, by_folder: bool = False) -> Page: ...


@dataclass(eq=False)
class _Rest:
    """Keys that begin with `prefix` and are not less than `start`, from the page of `token` on. serial: never by folder."""

    prefix: str
    start: str
    token: str | None = None
    by_folder: bool = False
    serial: bool = False
    parts: "Future[list[_Part]] | None" = field(default=None, repr=False)


_Part: TypeAlias = list[Object] | _Rest


def list_all(store: Store) -> Iterator[Object]:
    """All objects of a store in UTF-8 byte order of the key: a bucket by many requests at a time. Errors as for `list`."""
    return in_parallel(store) if isinstance(store, S3Store) else store.list()


def in_parallel(store: Pages) -> Iterator[Object]:
    """All objects in UTF-8 byte order of the key; at most `OBJECTS_AHEAD` and a page a thread are held.

    Keys and folders of one page stand in one order: no key without a further slash lies between two keys of a folder.
    """
    todo: list[_Part] = [_Rest("", "")]  # the last is the next
    last = ""
    with ThreadPoolExecutor(THREADS, "list") as pool:
        try:
            while todo:
                _start(todo, lambda rest: pool.submit(_parts, store, rest))
                part = todo.pop()
                if isinstance(part, _Rest):
                    assert part.parts is not None
                    todo += reversed(part.parts.result())
                    continue
                for entry in part:
                    if entry.key <= last:
                        raise StorageError(f"storage lists {entry.key!r} after {last!r}: not in the order of UTF-8 bytes")
                    yield entry
                    last = entry.key
        finally:
            pool.shutdown(cancel_futures=True)


def _start(todo: list[_Part], begin: Callable[[_Rest], "Future[list[_Part]]"]) -> None:
    """Begin the next requests in order, as far as threads and memory allow. The very next one always begins."""
    waiting, running, ahead = list(todo), 0, 0
    while waiting and running < THREADS and ahead < OBJECTS_AHEAD:
        part = waiting.pop()
        if isinstance(part, list):
            ahead += len(part)
            continue
        part.parts = part.parts or begin(part)
        if not part.parts.done():
            running, ahead = running + 1, ahead + PAGE_OBJECTS
        elif part.parts.exception() is None:
            waiting += reversed(part.parts.result())


def _parts(store: Pages, rest: _Rest) -> list[_Part]:
    """One page of what is left, and what is left then."""
    page = store.page(rest.prefix, rest.token, rest.by_folder)
    if rest.by_folder:
        return _by_folder(page, rest)
    parts: list[_Part] = [[entry for entry in page.objects if entry.key >= rest.start]]
    if page.token is None:
        return parts
    if not rest.serial and _largest_folder(rest.prefix, page.objects) >= WORTH * len(page.objects) > 0:
        start = max(rest.start, page.objects[-1].key + "\0")  # no string lies between a key and this one
        return [*parts, _Rest(rest.prefix, start, by_folder=True)]
    return [*parts, replace(rest, token=page.token, parts=None)]


def _by_folder(page: Page, rest: _Rest) -> list[_Part]:
    """The page's objects and folders in order, and what is left then."""
    named: list[tuple[str, Object | None]] = [(entry.key, entry) for entry in page.objects]
    named += [(folder, None) for folder in page.folders]
    parts: list[_Part] = []
    for name, entry in sorted(named, key=lambda pair: pair[0]):
        inside = entry is None and rest.start.startswith(name)
        if name < rest.start and not inside:
            continue
        if entry is not None:
            parts.append([entry])
        elif NOT_IN_XML.search(name):
            return [*parts, _Rest(rest.prefix, max(name, rest.start), serial=True)]
        else:
            parts.append(_Rest(name, rest.start if inside else ""))
    return parts if page.token is None else [*parts, replace(rest, token=page.token, parts=None)]


def _largest_folder(prefix: str, objects: list[Object]) -> int:
    """How many of the objects, which are in order, lie in one folder below the prefix, at most."""
    largest, count, before = 0, 0, ""
    for entry in objects:
        folder = prefix + entry.key[len(prefix) :].partition("/")[0] + "/"
        count = count + 1 if folder == before else 1
        before = folder
        largest = max(largest, count) if entry.key.startswith(folder) else largest
    return largest
