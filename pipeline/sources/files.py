"""Loose images: objects that are images themselves. Neighbours in the listing form a unit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.input.archives import archive_kind, unsupported
from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.input.lost import LOST, lost
from pipeline.storage.store import ReadStore, Store
from schemas.plan import DatedObject, PlannedObject, UnitContent


def claims(key: str) -> bool:
    """Claims every name that is not hidden or a sidecar; the registry asks the shard sources first."""
    return not ignored(key)


def plan(objects: Iterator[DatedObject], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """Units of at most `unit_images` and `unit_bytes` (one image may be larger), each of one date.

    Every date has an open unit of its own, so that alternating dates do not make units of one image.
    """
    units: dict[str, list[DatedObject]] = {}
    sizes: dict[str, int] = {}
    for entry in objects:
        unit = units.setdefault(entry.date, [])
        if unit and (len(unit) == config.unit_images or sizes[entry.date] + entry.size > config.unit_bytes):
            yield _content(unit)
            unit = units[entry.date] = []
        sizes[entry.date] = entry.size + (sizes[entry.date] if unit else 0)
        unit.append(entry)
    yield from map(_content, units.values())


def read(unit: UnitContent, store: ReadStore, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The unit as one part: one request per image, `read_threads` at a time, pinned to the planned etags."""

    def fetch(entry: PlannedObject) -> bytes | Fault:
        if kind := archive_kind(entry.key):
            return unsupported(entry.key, kind)
        if entry.size > config.max_member_bytes:
            return Fault("too_large", f"the image has {entry.size} bytes; the limit is {config.max_member_bytes}")
        try:
            return store.get(entry.key, entry.etag, entry.size)
        except LOST as error:
            return lost(error, "object")

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


def _content(unit: list[DatedObject]) -> UnitContent:
    objects, size = tuple(entry.planned for entry in unit), sum(entry.size for entry in unit)
    return UnitContent(source="files", date=unit[0].date, objects=objects, images=len(unit), size=size)
