"""A row of a sealed plan slice: one unit of work, or one stream that will be cut into units while it is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.field import field

VERSION = 3

OBJECT = pa.struct(
    [
        field("key", pa.string(), "object key below the input URI, exactly as listed", nullable=False),
        field("size", pa.int64(), "object size when listed", "bytes", nullable=False),
        field("etag", pa.string(), "object etag when listed; reads are pinned to it", nullable=False),
    ]
)

ROW_RANGE = pa.struct(
    [
        field("start", pa.int64(), "first row, counted from the beginning of the object", nullable=False),
        field("length", pa.int64(), "number of rows from there", nullable=False),
    ]
)

SCHEMA = pa.schema(
    [
        field("number", pa.int32(), "number of the unit or stream within its slice, from 0", nullable=False),
        field("unit_id", pa.string(), "hash (32 hex digits) of the unit's contents and how they are scored", nullable=False),
        field("source", pa.string(), "name of the module in pipeline/sources that reads it", nullable=False),
        field("date", pa.string(), "production day of its images", nullable=False),
        field("scoring", pa.int16(), "which of the slice's settings scores it, from 0", nullable=False),
        field("objects", pa.list_(OBJECT), "the objects in order; one for a shard", nullable=False),
        field("rows", ROW_RANGE, "rows of the shard that belong to the unit; null for whole objects"),
        field("images", pa.int64(), "images planned; null for a stream, whose count is only known at its end"),
        field("size", pa.int64(), "encoded bytes to read, as listed", "bytes", nullable=False),
    ]
)


class PlannedObject(NamedTuple):
    """An object as it was listed: key below the input URI, size in bytes, etag."""

    key: str
    size: int
    etag: str


class DatedObject(NamedTuple):
    """A listed object with the production day that it is planned under."""

    key: str
    size: int
    etag: str
    date: str

    @property
    def planned(self) -> PlannedObject:
        return PlannedObject(self.key, self.size, self.etag)


class RowRange(NamedTuple):
    """The rows start <= row < start + length of a shard."""

    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class UnitContent:
    """What a source puts into a unit; the columns of `SCHEMA` that the source decides on."""

    source: str
    date: str
    objects: tuple[PlannedObject, ...]
    rows: RowRange | None = None
    images: int | None
    size: int


@dataclass(frozen=True, kw_only=True)
class Unit(UnitContent):
    """A unit in its sealed slice: a row of `SCHEMA`."""

    number: int
    unit_id: str
    scoring: int


class UnitOutline(NamedTuple):
    """The columns of a unit that tell what is left of it and where its rows go. images: None for a stream.  size: bytes."""

    number: int
    date: str
    scoring: int
    images: int | None
    size: int = 0


def unit_table(units: Iterable[Unit]) -> pa.Table:
    """The units as rows of `SCHEMA`."""
    return pa.Table.from_pylist(
        [
            vars(unit)
            | {"objects": [entry._asdict() for entry in unit.objects], "rows": unit.rows._asdict() if unit.rows else None}
            for unit in units
        ],
        schema=SCHEMA,
    )


def units_in(table: pa.Table) -> Iterator[Unit]:
    """The units that `unit_table` wrote."""
    for row in table.to_pylist():
        rows = row.pop("rows")
        yield Unit(objects=_objects(row.pop("objects")), rows=RowRange(**rows) if rows else None, **row)


def outlines_in(table: pa.Table) -> Iterator[UnitOutline]:
    """The outlines in a table that holds at least the columns of `UnitOutline`."""
    return (UnitOutline(**row) for row in table.select(UnitOutline._fields).to_pylist())


def _objects(cells: list[dict[str, Any]]) -> tuple[PlannedObject, ...]:
    return tuple(PlannedObject(**cell) for cell in cells)
