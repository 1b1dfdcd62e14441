"""How long an analyst waits: the worst of many images, one lot's rows, one image's map, as `flowscore query` reads them.

    PYTHONPATH=. python docs/benchmarks/throughput/queries.py FOLDER [--images 100000000] [--days 100]

Makes the tables `scores` and `maps` in FOLDER with the product's own writer, a day a process and as many processes as cores,
unless they are there; `maps` has some images of the first day only. A million images take 6 seconds of one core and 67 MiB.
Then asks every question RUNS times on a new connection. Prints one line of JSON: for every question the median seconds,
connecting included, those of the first time, and the median seconds of processor.
"""

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.maps.quantise import quantise
from pipeline.state.publications import Change, DataFile
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.storage.store import open_store
from pipeline.tables.delta import score_schema
from pipeline.tables.publication import Draft, publish
from pipeline.tables.query import open_tables
from pipeline.tables.writer import PartitionWriter
from schemas import maps
from schemas.days import period

RUNS = 5
KEYS = ["line"]
LOT_IMAGES = 500
MAPPED = 20_000  # images of the first day that have a map
SIDE = 48
MODEL = "made-up"
FIRST_DAY = date(2026, 1, 1)
HEX = np.array([f"{i:02x}" for i in range(256)], "S2")


def hex_digits(random: np.random.Generator, count: int) -> pa.Array:
    """(count,) strings of 32 hex digits."""
    pairs = HEX[np.frombuffer(random.bytes(16 * count), np.uint8)]
    offsets = pa.py_buffer(np.arange(0, 32 * count + 1, 32, np.int32))
    return pa.Array.from_buffers(pa.string(), count, [None, offsets, pa.py_buffer(pairs.tobytes())])


def day(number: int) -> str:
    return (FIRST_DAY + timedelta(number)).isoformat()


def scores_of(number: int, count: int, schema: pa.Schema) -> pa.Table:
    """A day's rows in the table's order."""
    random = np.random.default_rng(number)
    order = np.argsort(-(score := random.gamma(9, 0.2, count).astype(np.float32)), kind="stable")
    image = np.arange(count)[order]
    lot = [f"lot-{i // LOT_IMAGES:06d}" for i in image]
    same = {
        "date": day(number),
        "period": period(day(number)),
        "model": MODEL,
        "model_digest": "d" * 64,
        "scoring_version": SCORING_VERSION,
        "verdict": "ok",
        "run_id": f"{MODEL}-{number + 1:06d}",
        "device": "cpu-bf16",
    }
    columns = {
        "image_id": hex_digits(random, count),
        "uri": [f"s3://archive/line1/{same['date']}/{name}/{i:09d}.jpg" for name, i in zip(lot, image, strict=True)],
        "content_hash": hex_digits(random, count),
        "bytes": random.integers(300_000, 500_000, count),
        "width": np.full(count, 1600, np.int32),
        "height": np.full(count, 1200, np.int32),
        "lot": lot,
        "score": score[order],
        "regions": random.integers(0, 3, count).astype(np.int32),
        "brightness": random.normal(120, 5, count).astype(np.float32),
        "contrast": random.normal(30, 3, count).astype(np.float32),
        "sharpness": random.normal(200, 20, count).astype(np.float32),
        "unit_id": [f"{number:08d}{i // 100:024d}" for i in image],
        "scored_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)])
        .cast(pa.timestamp("us", "UTC"))
        .take(pa.array(np.zeros(count, np.int64))),
    } | {name: np.full(count, value) for name, value in same.items()}
    arrays = [
        pa.array(columns[name]).cast(kind) if name in columns else pa.nulls(count, kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def maps_of(scored: pa.Table) -> pa.Table:
    """Smooth maps of rows, in the order of units."""
    random = np.random.default_rng(0)
    rows = []
    for row in scored.select(["image_id", "unit_id", "model", "period", "date"]).sort_by("unit_id").to_pylist():
        cells = random.gamma(4, 0.3, (SIDE + 2, SIDE + 2))
        smooth = sum(cells[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9  # (SIDE, SIDE)
        content, scale, offset = quantise(smooth.astype(np.float32))
        embedding = random.normal(size=32).astype("<f2").tobytes()
        rows.append(
            row
            | {
                "map": content,
                "map_height": SIDE,
                "map_width": SIDE,
                "map_scale": scale,
                "map_offset": offset,
                "embedding": embedding,
            }
        )
    return pa.Table.from_pylist(rows, schema=maps.SCHEMA)


def write_day(output: str, number: int, count: int) -> dict[str, list[DataFile]]:
    """The files of a day by table; not yet visible."""
    store, partition = open_store(output), {"model": MODEL, "period": period(day(number))}
    rows = scores_of(number, count, score_schema(KEYS))
    written = {"scores": rows} if number else {"scores": rows, "maps": maps_of(rows.slice(0, MAPPED))}
    files = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, table in written.items():
            with PartitionWriter(store, name, table.schema, partition, "bench", Path(scratch)) as writer:
                writer.write(table)
            files[name] = writer.files
    return files


def make(output: str, images: int, days: int) -> None:
    each = -(-images // days)
    added: dict[str, list[DataFile]] = {"maps": [], "scores": []}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for files in pool.map(partial(write_day, output, count=each), range(days)):
            for name, more in files.items():
                added[name] += more
    columns = {"maps": maps.SCHEMA, "scores": score_schema(KEYS)}
    changes = {name: Change(tuple(added[name]), (), kind.serialize().to_pybytes().hex()) for name, kind in columns.items()}
    publish(output, lambda seal, opened: Draft(seal, MODEL, "slice", changes, slice=1))


def questions(output: str) -> dict[str, str]:
    tables = open_tables(output).connection
    worst = "select image_id, uri, score, lot, date from scores order by score desc limit 1000"
    image = tables.execute(f"select image_id, unit_id from maps where date = '{day(0)}' limit 1").fetchone()
    assert image is not None
    place = f"model = '{MODEL}' and date = '{day(0)}'"
    return {
        "top_1000": worst,
        "top_1000_all_columns": worst.replace("image_id, uri, score, lot, date", "*"),
        "one_lot": f"select * from scores where {place} and lot = 'lot-000007'",
        "one_map": f"select * from maps where {place} and unit_id = '{image[1]}' and image_id = '{image[0]}'",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--days", type=int, default=100)
    asked = parser.parse_args()
    output = str(asked.folder.absolute())
    figures: dict[str, object] = {}
    if not (asked.folder / "scores").is_dir():
        clock = time.monotonic()
        make(output, asked.images, asked.days)
        figures["making_s"] = round(time.monotonic() - clock)
    figures |= {"images": open_tables(output).connection.execute("select count(*) from scores").fetchall()[0][0]}
    figures["scores_mib"] = round(sum(path.stat().st_size for path in (asked.folder / "scores").rglob("*.parquet")) / 2**20)
    figures["map_row_bytes"] = round(
        sum(path.stat().st_size for path in (asked.folder / "maps").rglob("*.parquet"))
        / min(MAPPED, -(-asked.images // asked.days))
    )
    for name, question in questions(output).items():
        seconds, cpu_s = [], []
        for _ in range(RUNS):
            clock, cpu = time.monotonic(), time.process_time()
            rows = open_tables(output).connection.sql(question).to_arrow_table()
            seconds.append(time.monotonic() - clock)
            cpu_s.append(time.process_time() - cpu)
        figures[name] = {
            "rows": rows.num_rows,
            "first_s": round(seconds[0], 2),
            "median_s": round(statistics.median(seconds), 2),
            "median_cpu_s": round(statistics.median(cpu_s), 2),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
