"""A small archive with every kind of shard and a few bad images, and the rows that a run published for it."""

import gzip
import io
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from e2e_archives import encoded

from pipeline.storage.store import Store
from pipeline.tables.delta import storage_options

KEY_PATTERN = "{line}/{date}/{name}"
TABLES = ("scores", "maps", "regions", "errors")
NOT_COMPARED = {"scored_at"}
"""Columns that say when an image was scored, not its result."""
IMAGES, BAD = 28, 3
UNIT_IMAGES = 4
IMAGES_LATER, BAD_LATER = 33, 4


def fill(store: Store) -> None:
    """Loose images of two days, a tar, a tar.gz and a Parquet file; one loose image and a member of both tars are cut."""
    for i in range(10):
        store.put(f"a/2026-01-0{1 + i // 5}/{i:02d}.png", _cut(encoded(i)) if i == 3 else encoded(i))
    tar = _tar({f"{i:02d}.png": _cut(encoded(20 + i)) if i == 5 else encoded(20 + i) for i in range(7)})
    store.put("b/2026-01-01/shard.tar", tar)
    store.put("b/2026-01-02/shard.tar.gz", gzip.compress(tar, mtime=0))
    store.put("c/2026-01-02/part.parquet", _parquet(range(40, 44)))


def add(store: Store) -> None:
    """Later additions: a changed image, new images on a day that already has some (one is bad), and a changed shard."""
    store.put("a/2026-01-01/00.png", encoded(60))
    for i in range(61, 65):
        store.put(f"a/2026-01-02/{i}.png", _cut(encoded(i)) if i == 62 else encoded(i))
    store.put("c/2026-01-02/part.parquet", _parquet(range(70, 75)))


def _tar(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def _parquet(seeds: range) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": [encoded(seed) for seed in seeds]}), sink)
    return sink.getvalue()


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def settings(model: str, input: str, output: str, **more: Any) -> dict[str, Any]:
    """The scoring command's settings as plain values."""
    source = {"unit_images": UNIT_IMAGES, "key_pattern": KEY_PATTERN, "read_threads": 2}
    return {
        "model": model,
        "input": input,
        "output": output,
        "source": source,
        "device": "cpu",
        "limits": {"max_error_share": 0.5},
        **more,
    }


def published(output: str) -> dict[str, list[tuple]]:
    """Every row of the tables, in a fixed order, as tuples that are equal only if all bits are."""
    found = {}
    for name in TABLES:
        rows = DeltaTable(f"{output}/{name}", storage_options=storage_options(output)).to_pyarrow_table()
        columns = sorted(set(rows.column_names) - NOT_COMPARED)
        cells = [_exact(rows[column]) for column in columns]
        found[name] = sorted(zip(*cells, strict=True), key=repr)
    return found


def _exact(column: pa.ChunkedArray) -> list:
    if pa.types.is_floating(column.type):
        return [None if cell is None else cell.hex() for cell in column.to_pylist()]
    return column.to_pylist()
