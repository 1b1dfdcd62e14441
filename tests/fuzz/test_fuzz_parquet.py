"""A damaged Parquet shard gives its planned rows, each with an image or an error, or one row for the shard."""

import io
import os
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore
from mutations import fuzz, mutated
from plan_units import plan_units

from pipeline.input.config import SourceConfig, Start
from pipeline.input.parquet_columns import NoSuchColumn
from pipeline.sources import parquet

ERRORS = {"corrupt_shard", "missing", "too_large"}
LIMIT = 5000  # max_member_bytes
TAIL = 8  # length of the footer, and the mark


class Shard(NamedTuple):
    """A valid shard and its images. groups: the end of each row group's bytes, and the number of rows up to there."""

    content: bytes
    images: list[bytes | None]
    groups: list[tuple[int, int]]
    id_column: str | None


def shard(
    rows: int, group: int, id_column: str | None = None, nested: bool = False, dictionary: bool = False, **options: object
) -> Shard:
    images = [None if number % 7 == 5 else bytes([number]) * (number * 61 % 900) for number in range(rows)]
    cells = pa.array(images, pa.binary())
    cells = cells.dictionary_encode() if dictionary else cells
    column = pa.StructArray.from_arrays([cells, pa.array(["p"] * rows)], ["bytes", "path"]) if nested else cells
    table = pa.table({"image": column, "id": [f"id {number}" for number in range(rows)], "label": range(rows)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group, data_page_size=2048, write_batch_size=4, **options)
    metadata = pq.read_metadata(io.BytesIO(sink.getvalue()))
    ends, count = [], 0
    for index in range(metadata.num_row_groups):
        found = metadata.row_group(index)
        count += found.num_rows
        chunks = [found.column(column) for column in range(found.num_columns)]
        starts = [min(filter(None, (chunk.data_page_offset, chunk.dictionary_page_offset))) for chunk in chunks]
        last = max(zip(starts, chunks, strict=True), key=lambda pair: pair[0])
        ends.append((last[0] + last[1].total_compressed_size, count))
    return Shard(sink.getvalue(), images, ends, id_column)


SHARDS = [
    shard(40, 16, compression="none", use_dictionary=False),
    shard(40, 40, "id", compression="snappy", data_page_version="2.0"),
    shard(30, 8, nested=True, compression="zstd", store_schema=False),
    shard(12, 3, "id", compression="gzip", use_dictionary=["image"]),
    shard(20, 9, dictionary=True),
    shard(0, 8),
]
CONTENTS = [each.content for each in SHARDS]


def footer_start(content: bytes) -> int:
    return max(0, len(content) - TAIL - int.from_bytes(content[-TAIL:-4], "little"))


def marks(content: bytes) -> list[int]:
    start = footer_start(content)
    return [0, *range(start, min(len(content), start + 4000))]


def rows_of(content: bytes, **options: object) -> tuple[list[dict], list[dict], MemoryStore]:
    """Plan rows and image rows; damaged numbers must not change the amount of work."""
    store = MemoryStore("a/s.parquet", content)
    config = SourceConfig(input_uri=store.uri, max_member_bytes=LIMIT, **options)
    units = list(plan_units(parquet, iter([store.object]), config, store))
    found = []
    for unit in units:
        assert all(0 <= number < 1 << 63 for number in (*(unit.rows or ()), unit.size))
        count = 0
        for part in parquet.read(unit, store, config, Start()):
            assert part.table.num_rows <= config.unit_images or len(units) == 1
            count += part.table.num_rows
            found += part.table.to_pylist()
        assert (unit.rows is None or unit.rows.length == count) and unit.images in (count, None)
    assert len(found) <= max(1, len(content))
    return units, found, store


@fuzz(200)
@given(st.sampled_from(SHARDS), st.sampled_from([4, 16, 1000]), st.data())
def test_rows_of_a_damaged_shard(whole, unit_images, data):
    content = data.draw(mutated([whole.content], marks=marks) | mutated([whole.content, *CONTENTS], 2))
    try:
        _, found, store = rows_of(content, unit_images=unit_images, image_column=None, id_column=whole.id_column)
    except NoSuchColumn as error:
        assert "a/s.parquet" in str(error)
        return
    assert store.requests < 1000
    for row in found:
        assert (row["encoded"] is None) == (row["error"] in ERRORS), row
        assert row["error"] is None or row["message"]


@fuzz(100)
@given(st.sampled_from(SHARDS), st.sampled_from([4, 16, 1000]), st.data())
def test_damaged_pages_cost_no_row_before_them_and_no_row_is_left_out(whole, unit_images, data):
    start = footer_start(whole.content)
    pages = data.draw(mutated([whole.content[:start]]))
    pages = pages[:start] + bytes(start - len(pages[:start]))
    _, found, _ = rows_of(pages + whole.content[start:], unit_images=unit_images, id_column=whole.id_column)
    assert len(found) == len(whole.images)
    damage = len(os.path.commonprefix([pages, whole.content]))
    intact = max((rows for end, rows in whole.groups if end <= damage), default=0)
    assert [row["encoded"] for row in found[:intact]] == whole.images[:intact]
