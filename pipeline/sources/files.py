"""Loose images: objects that are images themselves. Neighbours in the listing form a unit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.input.archives import archive_kind, unsupported
from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.storage.objects import Changed, Gone, Object
from pipeline.storage.store import Store
from schemas.plan import PlannedObject, UnitContent


def claims(key: str) -> bool:
    """Claims every name that is not hidden or a sidecar; the registry asks the shard sources first."""
    return not ignored(key)


def plan(objects: Iterator[Object], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """Units of at most `unit_images` and `unit_bytes` (one image may
    be larger), each within one date.
    """
    unit: list[Object] = []
    size, unit_date = 0, ""
    for entry in objects:
        date = config.object_date(entry.key)
        full = len(unit) == config.unit_images or size + entry.size > config.unit_bytes
        if unit and (full or date != unit_date):
            yield _content(unit, unit_date)
            unit, size = [], 0
        unit.append(entry)
        size, unit_date = size + entry.size, date
    if unit:
        yield _content(unit, unit_date)


def read(unit: UnitContent, store: Store, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The unit as one part: one request per image, `read_threads` at a time, pinned to the planned etags."""

    def fetch(entry: PlannedObject) -> bytes | Fault:
        if kind := archive_kind(entry.key):
            return unsupported(entry.key, kind)
        if entry.size > config.max_member_bytes:
            return Fault("too_large", f"the image has {entry.size} bytes; the limit is {config.max_member_bytes}")
        try:
            return store.get(entry.key, entry.etag, entry.size)
        except Gone:
            return Fault("gone", "the object no longer exists; it did when the run was planned")
        except Changed:
            return Fault("changed", "the object was changed since the run was planned; the next run plans its new content")

    rows = EncodedRows(store.uri, config)
    bytes_read = 0
    pool = ThreadPoolExecutor(config.read_threads)
    try:
        for entry, content in zip(unit.objects, pool.map(fetch, unit.objects), strict=True):
            fault = isinstance(content, Fault)
            bytes_read += 0 if fault else len(content)
            rows.add(entry.key, content, entry.size if fault else len(content))
    finally:
        pool.shutdown(cancel_futures=True)
    yield Part(rows.table(), None, bytes_read)


def _content(unit: list[Object], date: str) -> UnitContent:
    objects = tuple(PlannedObject(*entry) for entry in unit)
    return UnitContent(source="files", date=date, objects=objects, images=len(unit), size=sum(entry.size for entry in unit))
