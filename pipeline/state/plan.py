"""The plan lists the units of a run in sealed slices, written before any image byte is read.

The listing and every slice have one order, the UTF-8 bytes of the key. So a merge of two streams on
(key, etag) finds what is new or changed since the last slice, and nothing here grows with the archive.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input import registry
from pipeline.input.listing import Listing
from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig
from pipeline.state.state_file import READING, WRITING, intact
from pipeline.storage.objects import Object
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store
from schemas.plan import SCHEMA, Unit, UnitOutline, objects_in, outlines_in, unit_table, units_in

UNITS_PER_ROW_GROUP = 64

Row = TypeVar("Row")


@dataclass(frozen=True)
class SliceCounts:
    """What a sealed slice holds. images: the known part; tar streams are counted when they are read."""

    units: int
    images: int
    streams: int
    size: int
    ignored: int

    def footer(self) -> dict[str, str]:
        return {f"flowscore.{name}": str(count) for name, count in vars(self).items()}

    @classmethod
    def of(cls, metadata: dict[bytes, bytes]) -> "SliceCounts":
        return cls(**{name: int(metadata[f"flowscore.{name}".encode()]) for name in cls.__dataclass_fields__})


def plan_slice(state: RunState, config: ScoringConfig, input_store: Store) -> int | None:
    """List the input and seal a slice of what is new or changed since the slices before.

    Returns:
        The number of the slice, or None when nothing is new or changed. When another driver sealed that slice first, that
        one counts.
    """
    earlier = state.slices()
    listing = Listing(config.source, input_store)
    fresh = new_or_changed(iter(listing), planned_objects(state, earlier))
    first = next(fresh, None)
    if first is None:
        return None
    number = earlier[-1] + 1 if earlier else 0
    with tempfile.TemporaryDirectory(prefix="flowscore-plan-") as folder:
        path = Path(folder) / "slice.parquet"
        _write_slice(path, cut(_chain(first, fresh), config, input_store), listing)
        state.store.put_new_file(state.slice_key(number), path)
    return number


def new_or_changed(listing: Iterator[Object], planned: Iterator[tuple[str, str]]) -> Iterator[Object]:
    """The listed objects that no slice holds with their etag; both streams in UTF-8 order of the key."""
    key, etag = next(planned, (None, ""))
    for entry in listing:
        while key is not None and key.encode() < entry.key.encode():
            key, etag = next(planned, (None, ""))
        if key != entry.key or etag != entry.etag:
            yield entry


def planned_objects(state: RunState, slices: list[int]) -> Iterator[tuple[str, str]]:
    """(key, etag) of every object planned so far, in key order; the latest etag when an object was planned twice."""
    streams = [_objects_of(state, number) for number in slices]
    for key, versions in groupby(heapq.merge(*streams), key=lambda version: version[0]):
        *_, (_, _, etag) = versions
        yield key.decode(), etag


def _objects_of(state: RunState, slice_number: int) -> Iterator[tuple[bytes, int, str]]:
    for entry in _read(state, slice_number, objects_in, ["objects"]):
        yield entry.key.encode(), slice_number, entry.etag


def cut(objects: Iterator[Object], config: ScoringConfig, store: Store) -> Iterator[Unit]:
    """Units of the objects, numbered from 0; each source cuts the sequences of objects that it claims."""
    number = 0
    for name, group in groupby(objects, key=lambda entry: registry.claiming(entry.key)):
        for content in registry.source(name).plan(group, config.source, store):
            yield Unit(number=number, unit_id=config.unit_id(content), **vars(content))
            number += 1


def _write_slice(path: Path, units: Iterator[Unit], listing: Listing) -> None:
    counts = {"units": 0, "images": 0, "streams": 0, "size": 0}
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", store_schema=False, **WRITING) as writer:
        while group := list(islice(units, UNITS_PER_ROW_GROUP)):
            writer.write_table(unit_table(group), row_group_size=UNITS_PER_ROW_GROUP)
            counts["units"] += len(group)
            counts["images"] += sum(unit.images or 0 for unit in group)
            counts["streams"] += sum(unit.images is None for unit in group)
            counts["size"] += sum(unit.size for unit in group)
        writer.add_key_value_metadata(SliceCounts(**counts, ignored=listing.ignored).footer())


def slice_counts(state: RunState, slice_number: int) -> SliceCounts:
    """The counts in a sealed slice's footer."""
    key = state.slice_key(slice_number)
    with intact(key), open_ranged(state.store, key) as file:
        return SliceCounts.of(pq.read_metadata(file).metadata)


def dates(state: RunState, slice_number: int) -> list[str]:
    """The table partitions that a slice's rows go to, ascending."""
    return sorted({unit.date for unit in outlines(state, slice_number)})


def units(state: RunState, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[Unit]:
    """The units first <= number < end, a row group at a time."""
    return _read(state, slice_number, units_in, None, first, end)


def outlines(state: RunState, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[UnitOutline]:
    """The same without their contents, which are not read."""
    return _read(state, slice_number, outlines_in, list(UnitOutline._fields), first, end)


def _read(
    state: RunState,
    slice_number: int,
    rows_in: Callable[[pa.Table], Iterator[Row]],
    columns: list[str] | None,
    first: int = 0,
    end: int | None = None,
) -> Iterator[Row]:
    key = state.slice_key(slice_number)
    with intact(key), open_ranged(state.store, key) as file:
        parquet = pq.ParquetFile(file, **READING)
        total = parquet.metadata.num_rows
        end = total if end is None else min(end, total)
        for group in range(first // UNITS_PER_ROW_GROUP, -(-end // UNITS_PER_ROW_GROUP)):
            base = group * UNITS_PER_ROW_GROUP
            rows = parquet.read_row_group(group, columns=columns)
            yield from rows_in(rows.slice(max(0, first - base), end - max(base, first)))


def _chain(first: Object, rest: Iterator[Object]) -> Iterator[Object]:
    yield first
    yield from rest
