"""Makes up the state of a month: a ledger, its slices of loose images of one table partition, and their commits."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from inventory import padded, scrambled

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.state.commits import write_commit
from pipeline.state.entries import Created, Promotion, Slice, SlicePart, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.state.plan import OBJECTS_PER_ROW_GROUP, PART_OBJECTS, UNITS_PER_ROW_GROUP
from pipeline.state.scoring_config import SCORING_VERSION, ScoringConfig
from pipeline.state.state_file import WRITING
from schemas import commit, plan
from schemas.footer import Footer, StageSeconds
from schemas.inventory import OBJECTS

MODEL, DIGEST = "csflow", "d" * 64
DAYS, LOT = 31, 500
SOURCE = SourceConfig(input_uri="s3://plant-archive/images", key_pattern="{line}/{date}/{lot}/{name}")
SCORING = ScoringConfig(model=MODEL, model_digest=DIGEST, source=SOURCE, decode=DecodeConfig(height=256, width=256))


@dataclass(frozen=True)
class Month:
    """The first slice: so many images, numbered from 0 in key order. Higher numbers are of its last day."""

    ledger: Ledger
    images: int
    unit: int
    map_side: int

    def days(self, numbers: np.ndarray) -> np.ndarray:
        """Day of the month of each image, from 1."""
        return np.minimum(numbers // -(-self.images // DAYS), DAYS - 1) + 1

    def keys(self, numbers: np.ndarray) -> pa.Array:
        date = pc.binary_join_element_wise("2026-05", padded(self.days(numbers), 2), "-")
        lots = pc.binary_join_element_wise("lot", padded(numbers // LOT, 7), "-")
        stem = pc.binary_join_element_wise("line3", date, lots, padded(numbers, 10), "/")
        return pc.binary_join_element_wise(stem, "jpg", ".")

    def units(self, numbers: np.ndarray) -> list[np.ndarray]:
        """The numbers, ascending, cut into units of one day each."""
        of_days = np.split(numbers, np.flatnonzero(np.diff(self.days(numbers))) + 1)
        return [day[start : start + self.unit] for day in of_days for start in range(0, len(day), self.unit)]


def create(ledger: Ledger) -> None:
    """The entries before the first slice."""
    add_entry(ledger, read_head(ledger), Created(image_id="uri", key_pattern=SOURCE.key_pattern))
    add_entry(ledger, read_head(ledger), Promotion(digest=DIGEST, artifact={"name": MODEL}))


def seal(month: Month, numbers: np.ndarray, version: int) -> int:
    """Seal a slice of these images and commit its units. version: of the images' content."""
    ledger, units = month.ledger, month.units(numbers)
    slice_number = read_head(ledger).number + 1
    parts: list[SlicePart] = []
    waiting: list[int] = []
    for i, unit in enumerate(units):
        write_unit(month, slice_number, i, unit, version)
        waiting.append(i)
        count = sum(len(units[each]) for each in waiting)
        if count >= PART_OBJECTS or i + 1 == len(units):
            parts.append(write_part(month, [units[each] for each in waiting], waiting[0], slice_number, version))
            waiting = []
    entry = Slice(
        parts=tuple(parts),
        scorings=(SCORING,),
        promotions=(2,),
        objects=len(numbers),
        units=len(units),
        images=len(numbers),
        streams=0,
        size=400_000 * len(numbers),
        ignored=0,
        replans=int((numbers < month.images).sum()) if version else 0,
        last_day="2026-05-31",
        planned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version="0",
    )
    assert add_entry(ledger, read_head(ledger), entry)
    return slice_number


def write_part(month: Month, units: list[np.ndarray], first: int, slice_number: int, version: int) -> SlicePart:
    numbers = np.concatenate(units)
    keys, etags = month.keys(numbers), hexes(numbers, 2 * version)
    dates = pc.utf8_slice_codeunits(keys, 6, 16)
    before = pa.array(np.full(len(numbers), 3, np.int32), mask=(numbers >= month.images) | (version == 0))
    stamps = pa.repeat("STANDARD 2026-06-01", len(numbers))
    objects = [pc.binary_join_element_wise(f"{SOURCE.input_uri}/", keys, ""), etags, stamps, dates, before]
    starts = np.cumsum([0, *map(len, units)])
    listed = [keys, pa.array(np.full(len(numbers), 400_000)), etags]
    numbered = range(first, first + len(units))
    planned = [
        pa.array(numbered, pa.int32()),
        pa.array([unit_id(slice_number, number) for number in numbered]),
        pa.repeat("files", len(units)),
        dates.take(pa.array(starts[:-1])),
        pa.array(np.zeros(len(units), np.int16)),
        pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.StructArray.from_arrays(listed, fields=list(plan.OBJECT))),
        pa.array([None] * len(units), plan.ROW_RANGE),
        pa.array(np.diff(starts)),
        pa.array(400_000 * np.diff(starts)),
    ]
    part = SlicePart(name=uuid.uuid4().hex, first=first, objects=len(numbers), units=len(units))
    put(month.ledger, part, "objects", pa.table(objects, OBJECTS), OBJECTS_PER_ROW_GROUP)
    put(month.ledger, part, "units", pa.table(planned, plan.SCHEMA), UNITS_PER_ROW_GROUP)
    return part


def put(ledger: Ledger, part: SlicePart, what: str, rows: pa.Table, row_group_rows: int) -> None:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, compression="zstd", store_schema=False, **WRITING) as writer:
        writer.write_table(rows, row_group_size=row_group_rows)
    assert ledger.store.put_new(ledger.part_key(part.name, what), sink.getvalue().to_pybytes())


def write_unit(month: Month, slice_number: int, unit: int, numbers: np.ndarray, version: int) -> None:
    rows = commit_rows(month, numbers, version)
    footer = Footer(
        unit_id=unit_id(slice_number, unit),
        slice=slice_number,
        number=unit,
        part=0,
        date=f"2026-05-{month.days(numbers)[0]:02d}",
        scored=len(rows),
        errors=0,
        next_offset=None,
        device="cuda-bf16",
        scoring_version=SCORING_VERSION,
        bytes_read=400_000 * len(rows),
        ignored=0,
        seconds=StageSeconds(read=1.0, decode=1.0, score=1.0),
    )
    assert write_commit(month.ledger.store, month.ledger.commit_key(slice_number, unit, 0), rows, footer)


def commit_rows(month: Month, numbers: np.ndarray, version: int) -> pa.Table:
    """Rows of schemas/commit.py, which depend on the image and the version only."""
    count, keys = len(numbers), month.keys(numbers)
    random = np.random.default_rng((int(numbers[0]), version))
    lots = pc.binary_join_element_wise("lot", padded(numbers // LOT, 7), "-")
    lines = pa.repeat("line3", count)
    pairs = pa.concat_arrays([lines, lots]).take(pa.array(np.arange(2 * count).reshape(2, count).T.ravel()))
    columns: dict[str, Any] = {
        "position": np.arange(count),
        "image_id": hexes(numbers, 100),
        "uri": pc.binary_join_element_wise(f"{SOURCE.input_uri}/", keys, ""),
        "key": keys,
        "keys": pa.MapArray.from_arrays(np.arange(0, 2 * count + 1, 2, np.int32), pa.array(["line", "lot"] * count), pairs),
        "lot": lots,
        "content_hash": hexes(numbers, 200 + 2 * version),
        "bytes": random.integers(300_000, 500_000, count),
        "width": np.full(count, 1600),
        "height": np.full(count, 1200),
        "score": random.gamma(9, 0.2, count),
        "brightness": random.normal(120, 5, count),
        "contrast": random.normal(30, 3, count),
        "sharpness": random.normal(200, 20, count),
        "regions": pa.ListArray.from_arrays(np.zeros(count + 1, np.int32), pa.array([], commit.REGION)),
        "region_count": np.zeros(count),
    }
    if month.map_side:
        columns |= maps(random, count, month.map_side)
    arrays = [
        pa.array(columns[name]).cast(kind) if name in columns else pa.nulls(count, kind)
        for name, kind in zip(commit.SCHEMA.names, commit.SCHEMA.types, strict=True)
    ]
    return pa.table(arrays, commit.SCHEMA)


def maps(random: np.random.Generator, count: int, side: int) -> dict[str, Any]:
    return {
        "map": binaries(random, count, side * side),
        "map_height": np.full(count, side),
        "map_width": np.full(count, side),
        "map_scale": random.random(count),
        "map_offset": random.random(count),
        "embedding": binaries(random, count, 64),
    }


def binaries(random: np.random.Generator, count: int, size: int) -> pa.Array:
    """(count,) of so many random bytes each."""
    offsets = pa.py_buffer(np.arange(0, size * count + 1, size, np.int32))
    return pa.Array.from_buffers(pa.binary(), count, [None, offsets, pa.py_buffer(random.bytes(size * count))])


def hexes(numbers: np.ndarray, salt: int) -> pa.Array:
    """A string of 32 hex digits for each number, no two the same."""
    halves = np.stack([scrambled(numbers, salt), scrambled(numbers, salt + 1)], axis=1)  # (n, 2)
    offsets = pa.py_buffer(np.arange(0, 32 * len(numbers) + 1, 32, np.int32))
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, offsets, pa.py_buffer(halves.tobytes().hex().encode())])


def unit_id(slice_number: int, unit: int) -> str:
    return f"{slice_number:08x}{unit:024x}"
