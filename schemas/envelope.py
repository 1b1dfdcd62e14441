"""Typed rows that pass between the stages of a scoring run; Ray carries each as a table of one row.

Ray Data may split, merge or reorder rows of a block; it never splits a row. So a unit travels as one row that packs its
images, pixels and maps in binary columns, and arrives unchanged. Neither side copies buffers.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.field import field
from schemas.footer import StageSeconds
from schemas.scored_on import ScoredOn

UNIT = [
    field("number", pa.int32(), "number of the unit or stream within its slice", nullable=False),
    field("part", pa.int32(), "running number of the part within its stream; 0 for a unit", nullable=False),
    field("unit_id", pa.string(), "id of the unit, or of the unit cut from the stream", nullable=False),
    field("date", pa.string(), "table partition", nullable=False),
    field("next_offset", pa.int64(), "where the stream goes on, as its source counts; null where nothing is left"),
    field("bytes_read", pa.int64(), "encoded bytes fetched for the unit", "bytes", nullable=False),
    field("ignored", pa.int64(), "members of the shard that are not images or were not asked for", nullable=False),
    field("seconds", pa.struct([(name, pa.float64()) for name in StageSeconds._fields]), "time taken so far", nullable=False),
    field("rows", pa.large_binary(), "one row per image, as an Arrow IPC stream", nullable=False),
]

DECODED = pa.schema(
    [
        *UNIT,
        field("pixels", pa.large_binary(), "(N, H, W, 3) uint8; null where `rows` hold the encoded images instead"),
    ]
)

SCORED = pa.schema(
    [
        *UNIT,
        field("device", pa.string(), "device and precision that scored", nullable=False),
        field("hardware", pa.string(), "chip and libraries that scored", nullable=False),
        field("one_by_one", pa.bool_(), "whether a GPU started the kernels one by one", nullable=False),
        field("map_threshold", pa.float64(), "map value above which the model sees a region; null when it has none"),
        field("scores", pa.large_binary(), "(N,) float32; null, like the columns below, when the unit has no images"),
        field("finite", pa.large_binary(), "(N,) bool: whether score and map are finite numbers"),
        field("embeddings", pa.large_binary(), "(N, 32) float16"),
        field("maps", pa.large_binary(), "N maps (h, w) float32, one after the other"),
        field("map_sides", pa.list_(pa.int32()), "h and w of each map", "cells"),
        field("explained", pa.large_binary(), "(M,) int64: positions of the explained images; null when none was asked for"),
        field("explanations", pa.large_binary(), "M maps (h, w) float32, each of its image's map size"),
        field("explanation_method", pa.string(), "method of the explanations"),
    ]
)


class WorkItem(NamedTuple):
    """A unit to score, or a stream to continue: from which offset in the shard (as its source counts) and part."""

    number: int
    offset: int = 0
    part: int = 0


class UnitLabel(NamedTuple):
    """Which unit, or which part of a stream, an envelope holds; see `UNIT`."""

    number: int
    part: int
    unit_id: str
    date: str
    next_offset: int | None
    bytes_read: int
    ignored: int


class Results(NamedTuple):
    """The model's results for N > 0 images, packed; see `SCORED`. The last three are None when no explanation was asked for."""

    scores: pa.Buffer
    finite: pa.Buffer
    embeddings: pa.Buffer
    maps: pa.Buffer
    map_sides: list[int]
    explained: pa.Buffer | None = None
    explanations: pa.Buffer | None = None
    explanation_method: str | None = None


class DecodedUnit(NamedTuple):
    """Goes from reading to scoring. rows: of pipeline/decode/unit.py, or of schemas/encoded.py where there are no pixels."""

    label: UnitLabel
    seconds: StageSeconds
    rows: pa.Table
    pixels: pa.Buffer | None

    def table(self) -> pa.Table:
        return _one_row(DECODED, {**_unit(self.label, self.seconds, self.rows), "pixels": self.pixels})

    @classmethod
    def of(cls, table: pa.Table) -> "DecodedUnit":
        return cls(*_unit_in(table), _cell(table, "pixels"))


class ScoredUnit(NamedTuple):
    """Goes from scoring to the commit. rows: of pipeline/decode/unit.py.  results: None when there are no images."""

    label: UnitLabel
    seconds: StageSeconds
    rows: pa.Table
    scored_on: ScoredOn
    map_threshold: float | None
    results: Results | None

    def table(self) -> pa.Table:
        results = self.results._asdict() if self.results else dict.fromkeys(Results._fields)
        same = {**self.scored_on._asdict(), "map_threshold": self.map_threshold}
        return _one_row(SCORED, {**_unit(self.label, self.seconds, self.rows), **same, **results})

    @classmethod
    def of(cls, table: pa.Table) -> "ScoredUnit":
        results = {name: _cell(table, name) for name in Results._fields}
        scored = None if results["scores"] is None else Results(**results)
        scored_on = ScoredOn(*(_cell(table, name) for name in ScoredOn._fields))
        return cls(*_unit_in(table), scored_on, _cell(table, "map_threshold"), scored)


def item_table(items: Iterable[WorkItem]) -> pa.Table:
    """A table of one row, which Ray Data never splits: the items of one task of reading."""
    columns = zip(*items, strict=True)
    return pa.table(
        {name: pa.array([cells], pa.list_(pa.int64())) for name, cells in zip(WorkItem._fields, columns, strict=True)}
    )


def items_in(table: pa.Table) -> Iterator[WorkItem]:
    """The items that `item_table` wrote."""
    for row in table.to_pylist():
        yield from map(WorkItem, row["number"], row["offset"], row["part"])


def _unit(label: UnitLabel, seconds: StageSeconds, rows: pa.Table) -> dict[str, Any]:
    """The cells of `UNIT`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return {**label._asdict(), "seconds": seconds._asdict(), "rows": sink.getvalue()}


def _unit_in(table: pa.Table) -> tuple[UnitLabel, StageSeconds, pa.Table]:
    """The arguments of `_unit`; the rows are read in place."""
    label = UnitLabel(**{name: _cell(table, name) for name in UnitLabel._fields})
    return label, StageSeconds(**_cell(table, "seconds")), pa.ipc.open_stream(_cell(table, "rows")).read_all()


def _one_row(schema: pa.Schema, cells: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_arrays([_array(cells[column.name], column.type) for column in schema], schema=schema)


def _array(cell: object, dtype: pa.DataType) -> pa.Array:
    """An array of one cell; a buffer becomes the array's own."""
    if not isinstance(cell, pa.Buffer):
        return pa.array([cell], dtype)
    offsets = b"".join(offset.to_bytes(8, "little") for offset in (0, cell.size))
    return pa.Array.from_buffers(dtype, 1, [None, pa.py_buffer(offsets), cell])


def _cell(table: pa.Table, name: str) -> Any:
    """The cell of a table of one row; for a binary cell its buffer, in place (a scalar would copy it)."""
    assert table.num_rows == 1, f"{table.num_rows} units in one envelope"
    (array,) = (chunk for chunk in table[name].chunks if len(chunk))
    if not pa.types.is_large_binary(array.type) or not array.is_valid()[0].as_py():
        return array[0].as_py()
    _, offsets, content = array.buffers()
    start, end = memoryview(offsets).cast("q")[array.offset : array.offset + 2]
    return content.slice(start, end - start)
