"""Parquet shards with a column of encoded images.

Row groups are combined into a unit up to its limits. A larger one is a stream, cut while it is read, like a tar: a column
chunk can only be read from its beginning, so separate units would fetch it again and again. Memory holds a batch and its
pages (a writer with default settings makes pages of about 1,000 images).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.input.lost import LOST, lost
from pipeline.input.parquet.parser import Unparsable
from pipeline.input.parquet.shard import Cell, ParquetShard
from pipeline.input.parquet_columns import NoSuchColumn, row_name
from pipeline.input.sidecars import describes_others
from pipeline.storage.store import ReadStore, Store
from schemas.plan import DatedObject, RowRange, UnitContent

MAX_DEATHS = 3  # of parsers in a unit; the rest of its rows is then listed as lost


def claims(key: str) -> bool:
    """`.parquet` and `.pq`, in any case."""
    return key.lower().endswith((".parquet", ".pq")) and not ignored(key)


def plan(objects: Iterator[DatedObject], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """Units by the footers alone. A shard with an unreadable or refused footer, or other columns than the shards beside it,
    is one unit without a range of rows; one that only describes other images is a unit of no images, so that it counts as
    planned.

    Raises NoSuchColumn at the end when none of the shards has a column of images, or each has several and none is configured.
    """
    misfit, any_fits = None, False
    for entry in objects:
        whole = UnitContent(
            source="parquet",
            date=entry.date,
            objects=(entry.planned,),
            images=None,
            size=entry.size,
        )
        try:
            with ParquetShard(store, entry.key, entry.etag, config) as shard:
                groups = list(_with_share(shard))
        except (Unparsable, *LOST, NoSuchColumn) as error:
            if isinstance(error, NoSuchColumn):
                if describes_others(entry.key, store):
                    yield replace(whole, rows=RowRange(0, 0), images=0, size=0)
                    continue
                misfit = misfit or error
            yield whole
            continue
        any_fits = True
        yield from _cut(whole, groups, config)
    if misfit and not any_fits:  # a mistake in the config; a single stray file is its own error
        raise misfit


def read(unit: UnitContent, store: ReadStore, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The unit's rows in order, each with its image or a fault; `start.offset` counts rows of the unit.

    A unit of known `images` is one part; a stream is cut before `unit_images` or `unit_bytes` would be exceeded. A file that
    only describes other images counts as ignored.
    """
    (shard,) = unit.objects
    key = shard.key
    first, total = unit.rows or (0, None)
    rows, seen, done, fetched, parsed = EncodedRows(store.uri, config), Counter(start.seen), start.offset, 0, None
    fault, ignored_files, bytes_read = None, 0, 0

    def add(content: bytes | Fault, size: int | None, member: str) -> None:
        rows.add(key, content, size, member, seen[member])
        seen[member] += 1

    try:
        with ParquetShard(store, key, shard.etag, config) as parsed:
            total = parsed.rows if total is None else total
            if config.id_column is not None and first > 0:
                seen.update(_repeated_before(parsed, first, total, config))
            for cell in _rows(parsed, first, total, done, config):
                content, size = _content(cell, config)
                if unit.images is None and rows.full_before(content):
                    yield Part(rows.table(), done, parsed.bytes_read - fetched)
                    fetched = parsed.bytes_read
                row_id = cell.id if isinstance(cell, Cell) else None
                add(content, size, row_id if row_id is not None else row_name(first + done, config))
                done += 1
            if done < total:
                fault = Fault("corrupt_shard", "the Parquet file holds fewer rows than its footer says")
    except LOST as error:
        fault = lost(error, "shard")
    except NoSuchColumn as error:
        fault, ignored_files = Fault("unsupported", str(error)), int(total == 0)
    except Unparsable as error:
        fault = Fault(error.error, str(error))
    if parsed is not None:
        bytes_read = parsed.bytes_read - fetched
    if fault and total is None:
        rows.add(key, fault, None)
    while fault and done < (total or 0):  # list lost images row by row, to keep the planned count
        if unit.images is None and rows.full_before(fault):
            yield Part(rows.table(), done, bytes_read)
            bytes_read = 0
        add(fault, None, row_name(first + done, config))
        done += 1
    yield Part(rows.table(), None, bytes_read, ignored_files)


def _content(cell: Cell | Fault, config: SourceConfig) -> tuple[bytes | Fault, int | None]:
    """The image or why there is none, and its size in bytes if it is known."""
    if isinstance(cell, Fault):
        return cell, None
    if cell.size is None:
        return Fault("missing", "the image cell of the row is null"), None
    if cell.content is None:
        return Fault("too_large", f"the image has {cell.size} bytes; the limit is {config.max_member_bytes}"), cell.size
    return cell.content, cell.size


def _rows(shard: ParquetShard, row_start: int, row_count: int, done: int, config: SourceConfig) -> Iterator[Cell | Fault]:
    """The rows row_start + done <= row < row_start + row_count, a bounded batch in memory at a time.

    Where parsing takes too much memory or time, or ends the parser, the rest of the row group is lost. Raises Unparsable for
    damage, which costs the rest of the unit, and after MAX_DEATHS.
    """
    chosen = _within(shard, row_start, row_start + row_count)
    image_bytes = sum(shard.groups[group].size for group in chosen)
    batch_rows = max(1, min(config.unit_images, config.unit_bytes * row_count // max(1, image_bytes)))
    row = deaths = 0
    for group in chosen:  # one by one: a damaged group loses no row before it
        end = row + shard.groups[group].rows
        at = max(row, done)
        try:
            for cell in shard.cells(group, at - row, batch_rows) if at < end else ():
                yield cell
                at += 1
            lost = Fault("corrupt_shard", "the Parquet file holds fewer rows than its footer says")
        except Unparsable as error:
            deaths += error.ended
            if error.error == "corrupt_shard" or deaths == MAX_DEATHS:
                raise
            lost = Fault(error.error, str(error))
        yield from (lost for _ in range(at, end))
        row = end


def _repeated_before(shard: ParquetShard, first: int, count: int, config: SourceConfig) -> Counter[str]:
    """How often the names of the rows first <= row < first + count stand before them in the shard, by the id column alone."""
    wanted = set(_names(shard, first, first + count, config))
    return Counter(name for name in _names(shard, 0, first, config) if name in wanted)


def _names(shard: ParquetShard, row_start: int, row_end: int, config: SourceConfig) -> Iterator[str]:
    """Names of rows. Those after damage have no id for any reader. Raises Unparsable if the ids end the parser: a name that
    cannot be counted might be given twice."""
    row = row_start
    for group in _within(shard, row_start, row_end):
        end = row + shard.groups[group].rows
        try:
            for row_id in shard.ids(group):
                yield row_name(row, config) if row_id is None else row_id
                row += 1
        except Unparsable as error:
            if error.error != "corrupt_shard" or error.ended:
                raise
        yield from (row_name(lost, config) for lost in range(row, end))
        row = end


def _within(shard: ParquetShard, row_start: int, row_end: int) -> list[int]:
    """The row groups that begin there; a unit begins and ends with one."""
    chosen, first = [], 0
    for index, group in enumerate(shard.groups):
        if row_start <= first < row_end:
            chosen.append(index)
        first += group.rows
    return chosen


def _with_share(shard: ParquetShard) -> Iterator[tuple[int, int, int]]:
    """For every row group: rows, bytes decompressed, and its share of the file's bytes."""
    whole = sum(group.size for group in shard.groups)
    for group in shard.groups:
        yield group.rows, group.size, shard.size * group.size // max(1, whole)


def _cut(whole: UnitContent, groups: list[tuple[int, int, int]], config: SourceConfig) -> Iterator[UnitContent]:
    """The units of a shard; a file without rows is one empty unit, so that it counts as planned."""
    row_start = row_count = size = stored = 0
    for rows, group_size, group_stored in groups:
        if row_count and (row_count + rows > config.unit_images or size + group_size > config.unit_bytes):
            yield _range(whole, RowRange(row_start, row_count), size, stored, config)
            row_start, row_count, size, stored = row_start + row_count, 0, 0, 0
        row_count, size, stored = row_count + rows, size + group_size, stored + group_stored
    if row_count or not row_start:
        yield _range(whole, RowRange(row_start, row_count), size, stored, config)


def _range(whole: UnitContent, rows: RowRange, size: int, stored: int, config: SourceConfig) -> UnitContent:
    fits = rows.length <= config.unit_images and size <= config.unit_bytes
    return replace(whole, rows=rows, images=rows.length if fits else None, size=stored)
