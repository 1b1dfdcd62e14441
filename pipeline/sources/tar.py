"""WebDataset tar shards, plain or gzip: a stream that is cut into units while it is read."""

from collections.abc import Iterator

from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.input.tar_members import Member, members
from pipeline.storage.forward import ForwardReader
from pipeline.storage.objects import Changed, Gone, Object
from pipeline.storage.store import Store
from schemas.plan import PlannedObject, UnitContent

GZIP = (".tar.gz", ".tgz")


def claims(key: str) -> bool:
    """`.tar`, `.tar.gz` and `.tgz`, in any case."""
    return key.lower().endswith((".tar", *GZIP)) and not ignored(key)


def plan(objects: Iterator[Object], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """One stream a shard; its images are counted when it is read."""
    for entry in objects:
        date, shard = config.shard_date(entry.key), PlannedObject(*entry)
        yield UnitContent(source="tar", date=date, objects=(shard,), images=None, size=entry.size)


def read(unit: UnitContent, store: Store, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The shard from `start` on, in parts of at most `unit_images` members and `unit_bytes` (one image may be larger).

    Where a part ends depends on the members alone, so that a reader which starts at a `next_offset` gives the same parts
    as one that read through. Offsets count decompressed bytes in a gzip shard. The last part is empty only for a shard
    without images.
    """
    (shard,) = unit.objects
    key, seen = shard.key, dict(start.seen)
    rows = EncodedRows(store.uri, config)
    gzip = key.lower().endswith(GZIP)
    reader = ForwardReader(store, key, shard.etag, shard.size, gzip)
    fetched = 0
    for member in _members(reader, start.offset, config.max_member_bytes):
        if rows.full_before(member.content):
            yield Part(rows.table(), member.offset, reader.fetched - fetched)
            fetched = reader.fetched
        ordinal = 0
        if member.name is not None:
            ordinal = seen.get(member.name, 0)
            seen[member.name] = ordinal + 1
        rows.add(key, member.content, member.size, member.name, ordinal)
    yield Part(rows.table(), None, reader.fetched - fetched)


def _members(reader: ForwardReader, start: int, max_member_bytes: int) -> Iterator[Member]:
    """The members; when the shard is deleted or replaced meanwhile, that is the last one's fault."""
    offset = start
    try:
        for member in members(reader, start, max_member_bytes):
            yield member
            offset = reader.position
    except (Gone, Changed) as fault:
        error, what = ("gone", "deleted") if isinstance(fault, Gone) else ("changed", "changed")
        why = f"the shard was {what} since the run was planned; everything from byte {offset} on is lost"
        yield Member(offset, None, None, Fault(error, why, offset))
