"""Parquet shards with a column of encoded images.

Row groups are combined into a unit up to its limits. A larger one is a stream, cut while it is read, like a tar: a column
chunk can only be read from its beginning, so separate units would fetch it again and again. Memory holds a batch and its
pages (a writer with default settings makes pages of about 1,000 images).
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.input.parquet_columns import NoSuchColumn, find_columns, row_name
from pipeline.input.sidecars import describes_others
from pipeline.storage.objects import Changed, Gone, Object
from pipeline.storage.ranged import RangedFile, open_ranged
from pipeline.storage.store import Store
from schemas.plan import PlannedObject, RowRange, UnitContent

BUFFER_BYTES = 16 << 20  # one request
MAX_RATIO = 1 << 20  # of decompressed to stored bytes: more than any writer reaches
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)  # pyarrow raises these for damaged bytes, storage does not


def claims(key: str) -> bool:
    """`.parquet` and `.pq`, in any case."""
    return key.lower().endswith((".parquet", ".pq")) and not ignored(key)


def plan(objects: Iterator[Object], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """Units by the footers alone. A shard with an unreadable footer, or with other columns than the shards beside it, is one
    unit without a range of rows; one that only describes other images is a unit of no images, so that it counts as
    planned.

    Raises NoSuchColumn at the end when none of the shards has a column of images, or each has several and none is configured.
    """
    misfit, any_fits = None, False
    for entry in objects:
        whole = UnitContent(
            source="parquet",
            date=config.shard_date(entry.key),
            objects=(PlannedObject(*entry),),
            images=None,
            size=entry.size,
        )
        try:
            with open_ranged(store, entry.key, entry.etag) as file:
                parquet = _open(file)
                find_columns(entry.key, parquet.schema_arrow, config)
                groups = list(_group_sizes(parquet, file.size))
        except (*DAMAGED, Gone, Changed, NoSuchColumn) as error:
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


def read(unit: UnitContent, store: Store, config: SourceConfig, start: Start) -> Iterator[Part]:
    """The unit's rows in order, each with its image or a fault; `start.offset` counts rows of the unit.

    A unit of known `images` is one part; a stream is cut before `unit_images` or `unit_bytes` would be exceeded. A file that
    only describes other images counts as ignored.
    """
    (shard,) = unit.objects
    key = shard.key
    first, total = unit.rows or (0, None)
    rows, seen, done, fetched, file = EncodedRows(store.uri, config), dict(start.seen), start.offset, 0, None
    fault, ignored_files = None, 0
    try:
        file = open_ranged(store, key, shard.etag)
        parquet = _open(file)
        find_columns(key, parquet.schema_arrow, config)
        total = parquet.metadata.num_rows if total is None else total
        for image, row_id in _cells(parquet, first, total, done, key, config):
            content: bytes | Fault = Fault("missing", "the image cell of the row is null") if image is None else image
            if image is not None and len(image) > config.max_member_bytes:
                content = Fault("too_large", f"the image has {len(image)} bytes; the limit is {config.max_member_bytes}")
            if unit.images is None and rows.full_before(content):
                yield Part(rows.table(), done, file.bytes_read - fetched)
                fetched = file.bytes_read
            member = row_id if row_id is not None else row_name(first + done, config)
            ordinal = seen.get(member, 0)
            seen[member] = ordinal + 1
            rows.add(key, content, None if image is None else len(image), member, ordinal)
            done += 1
        if done < total:
            fault = Fault("corrupt_shard", "the Parquet file holds fewer rows than its footer says")
    except Gone:
        fault = Fault("gone", "the shard was deleted since the run was planned")
    except Changed:
        fault = Fault("changed", "the shard was changed since the run was planned")
    except NoSuchColumn as error:
        fault, ignored_files = Fault("unsupported", str(error)), int(total == 0)
    except DAMAGED as error:
        fault = Fault("corrupt_shard", f"the Parquet file cannot be read: {error}")
    bytes_read = file.bytes_read - fetched if file else 0
    if fault and total is None:
        rows.add(key, fault, None)
    while fault and done < (total or 0):  # list lost images row by row, to keep the planned count
        if unit.images is None and rows.full_before(fault):
            yield Part(rows.table(), done, bytes_read)
            bytes_read = 0
        rows.add(key, fault, None, row_name(first + done, config))
        done += 1
    yield Part(rows.table(), None, bytes_read, ignored_files)


def _open(file: RangedFile) -> pq.ParquetFile:
    """The file. Refuses a footer that claims more rows than bytes, since every lost row becomes a row of errors."""
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
    footer = parquet.metadata
    rows = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
    if footer.num_rows != sum(rows) or min(rows, default=0) < 0 or footer.num_rows > file.size:
        raise pa.ArrowInvalid(f"the footer says {footer.num_rows} rows, in groups of {rows[:8]}, in {file.size} bytes")
    sizes = [footer.row_group(index).total_byte_size for index in range(footer.num_row_groups)]
    if not all(0 <= size <= file.size * MAX_RATIO for size in sizes):
        raise pa.ArrowInvalid(f"the footer says row groups of {sizes[:8]} bytes, in {file.size} bytes")
    return parquet


def _cells(
    parquet: pq.ParquetFile, row_start: int, row_count: int, done: int, key: str, config: SourceConfig
) -> Iterator[tuple[bytes | None, str | None]]:
    """(image, id) of the rows row_start + done <= row < row_start + row_count, a bounded batch in memory at a time."""
    columns = find_columns(key, parquet.schema_arrow, config)
    chosen, first, image_bytes = [], 0, 0
    for index, (rows, content_bytes, _) in enumerate(_group_sizes(parquet, 0)):
        if row_start <= first < row_start + row_count:
            chosen.append(index)
            image_bytes += content_bytes
        first += rows
    batch_rows = max(1, min(config.unit_images, config.unit_bytes * row_count // max(1, image_bytes)))
    row = 0
    for group in chosen:  # one by one: a damaged group loses no row before it
        for batch in parquet.iter_batches(batch_rows, [group], columns.projection(), use_threads=False):
            if row + len(batch) > done:
                yield from columns.cells(batch.slice(max(0, done - row)))
            row += len(batch)


def _group_sizes(parquet: pq.ParquetFile, file_size: int) -> Iterator[tuple[int, int, int]]:
    """For every row group: rows, bytes decompressed, and its share of the file's bytes.

    The column's own metadata is not used: pyarrow aborts the process when it contradicts itself.
    """
    groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
    whole = sum(group.total_byte_size for group in groups)
    for group in groups:
        yield group.num_rows, group.total_byte_size, file_size * group.total_byte_size // max(1, whole)


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
