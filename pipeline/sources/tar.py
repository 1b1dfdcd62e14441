"""WebDataset tar shards, plain, gzip or zstd. Each is a stream that is cut into units while it is read."""

import logging
from collections.abc import Iterator

from pipeline.input.archives import TARS
from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows
from pipeline.input.keys import ignored
from pipeline.input.lost import LOST, lost
from pipeline.input.names import dataset_key
from pipeline.input.tar_members import Member, members
from pipeline.storage.forward import ForwardReader
from pipeline.storage.store import ReadStore, Store
from schemas.plan import DatedObject, UnitContent

log = logging.getLogger(__name__)
_said: set[str] = set()


def claims(key: str) -> bool:
    """`.tar`, `.tar.gz`, `.tgz`, `.tar.zst` and `.tzst`, in any case."""
    return key.lower().endswith(tuple(TARS)) and not ignored(key)


def plan(objects: Iterator[DatedObject], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """One stream per shard; its images are counted when it is read."""
    for entry in objects:
        yield UnitContent(source="tar", date=entry.date, objects=(entry.planned,), images=None, size=entry.size)


def read(unit: UnitContent, store: ReadStore, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The shard from `start` on, in parts of at most `unit_images` members and `unit_bytes` (one image may be larger).

    The end of a part depends on the members alone, so that a reader which starts at a `next_offset` gives the same parts
    as one that started at 0. Offsets count decompressed bytes in a compressed shard. The last part is empty only for a shard
    without images.
    """
    (shard,) = unit.objects
    key, seen = shard.key, dict(start.seen)
    rows = EncodedRows(store.uri, config)
    compression = next((kind for suffix, kind in TARS.items() if key.lower().endswith(suffix)), None)
    reader = ForwardReader(store, key, shard.etag, shard.size, compression)
    fetched = skipped = 0
    last: str | None = None
    for member in _members(reader, start.offset, config):
        if member.content is None:
            skipped += 1
            continue
        if rows.full_before(member.content):
            yield Part(rows.table(), member.offset, reader.fetched - fetched, skipped)
            fetched, skipped = reader.fetched, 0
        ordinal = 0
        if member.name is not None:
            ordinal = seen.get(member.name, 0)
            seen[member.name] = ordinal + 1
            if (
                isinstance(member.content, bytes)
                and last not in (None, member.name)
                and dataset_key(str(last)) == dataset_key(member.name)
            ):
                _say_shared(store.uri, key, str(last), member.name)
            last = member.name
        rows.add(key, member.content, member.size, member.name, ordinal)
    yield Part(rows.table(), None, reader.fetched - fetched, skipped)


def _say_shared(uri: str, key: str, first: str, second: str) -> None:
    """Warn once per process and input that pictures share a key: one of them is most often a mask."""
    if uri not in _said:
        _said.add(uri)
        text = "%r holds several pictures of one key, such as %r and %r; all are read. --members '*.jpg' would read one kind"
        log.warning(text, key, first, second)


def _members(reader: ForwardReader, start: int, config: SourceConfig) -> Iterator[Member]:
    """The members; if the shard is deleted, replaced or refused meanwhile, the last one has that fault."""
    offset = start
    try:
        for member in members(reader, start, config.max_member_bytes, config.wants):
            yield member
            offset = reader.position
    except LOST as error:
        yield Member(offset, None, None, lost(error, "shard", offset))
