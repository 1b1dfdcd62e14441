"""Bytes an object, speed and memory of a ledger's inventory, from objects that are made up.

    PYTHONPATH=. python docs/benchmarks/ledger/inventory.py [--objects 10000000] [--folder DIR]

A first slice holds all objects; three nights follow, each of which changed a thousandth of them, spread over all keys. One core
does everything. Prints one line of JSON, objects a second of processor time of: `fold`, the first slice; `scan`, asking for
every object when nothing is new (with the base alone, with the three nights after it, and with the nights folded); `merge`, the
fold of one more slice with every second object changed. The time to make the listing up is not counted. Peak memory is that of
the process.
"""

import argparse
import json
import os
import resource
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.state.entries import Created, Slice, SlicePart, read_head
from pipeline.state.inventory import Base, fold
from pipeline.state.known import Known, is_new
from pipeline.state.ledger import Ledger
from pipeline.state.tiers import ROW_GROUP, WRITING, files_prefix
from schemas.inventory import OBJECTS

BATCH, PART = 100_000, 1_000_000
LOT, DAY, DAY_S = 500, 10_000, 86_400
MAY_1 = 1_777_593_600
EVERY_NIGHT, NIGHTS = 1000, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure(Ledger(folder, "csflow"), arguments.objects)))


def measure(ledger: Ledger, objects: int) -> dict[str, float]:
    ledger.entries.put_new(1, Created(image_id="uri", key_pattern=None).model_dump_json().encode())
    figures: dict[str, float] = {"objects": objects}
    seal(ledger, objects, 1, 0)
    base, figures["fold_per_s"] = timed_fold(ledger, Base(), objects)
    figures["bytes_per_object"] = sum(entry.size for entry in ledger.store.list(files_prefix(ledger))) / objects
    figures["scan_per_s"] = scan(ledger, base, objects)
    for night in range(NIGHTS):
        seal(ledger, objects, EVERY_NIGHT, night)
    figures["scan_with_nights_per_s"] = scan(ledger, base, objects)
    base, _ = timed_fold(ledger, base, objects)
    figures["scan_with_nights_folded_per_s"] = scan(ledger, base, objects)
    figures["peak_mb_before_merge"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    seal(ledger, objects, 2, 1)
    base, figures["merge_per_s"] = timed_fold(ledger, base, objects)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {name: round(figure, 1) for name, figure in figures.items()}


def timed_fold(ledger: Ledger, base: Base, objects: int) -> tuple[Base, float]:
    head = read_head(ledger, base.head)
    began = time.process_time()
    return fold(ledger, base, head), objects / (time.process_time() - began)


def scan(ledger: Ledger, base: Base, objects: int) -> float:
    """Objects a second of asking for all; every one is known, and those that a night changed are new to the first listing."""
    slices = read_head(ledger, base.head).slices
    seconds = -time.process_time()
    known = Known(ledger, base, slices, "s3://plant-archive/images/")
    seconds += time.process_time()
    new = 0
    for start in range(0, objects, BATCH):
        batch = listing(np.arange(start, min(start + BATCH, objects)), 0)
        names, stated = batch["object"].combine_chunks(), batch.select(["etag", "stamp"])
        seconds -= time.process_time()
        new += pc.sum(is_new(stated, known.of(names), retry_errors=False)).as_py()
        seconds += time.process_time()
    changed = NIGHTS * (objects // EVERY_NIGHT) if ledger.entries.newest() > 2 else 0
    assert new == changed, (new, changed)
    return objects / seconds


def seal(ledger: Ledger, objects: int, step: int, first: int) -> None:
    """A slice of every `step`-th object, changed if `step` is not 1."""
    parts = []
    numbers = np.arange(first, objects, step)
    for start in range(0, len(numbers), PART):
        rows = listing(numbers[start : start + PART], step - 1)
        part = SlicePart(name=uuid.uuid4().hex, first=start, objects=len(rows), units=0)
        with tempfile.NamedTemporaryFile() as file:
            pq.write_table(rows, file.name, row_group_size=ROW_GROUP, **WRITING | {"use_dictionary": ["date", "before"]})
            ledger.store.put_new_file(ledger.part_key(part.name, "objects"), file.name)
        parts.append(part)
    entry = Slice(
        parts=tuple(parts),
        scorings=(),
        promotions=(),
        objects=len(numbers),
        units=0,
        images=len(numbers),
        streams=0,
        size=0,
        ignored=0,
        replans=0,
        last_day=None,
        planned_at="",
        code_version="",
    )
    ledger.entries.put_new(ledger.entries.newest() + 1, entry.model_dump_json().encode())


def listing(numbers: np.ndarray, version: int) -> pa.Table:
    """What is listed under these ascending numbers: rows of OBJECTS with MD5-like etags that depend on the version."""
    day = pa.array(MAY_1 + numbers // DAY * DAY_S, pa.timestamp("s"))
    date = pc.strftime(day, "%Y-%m-%d")
    lot, name = padded(numbers // LOT, 7), padded(numbers, 10)
    names = pc.binary_join_element_wise("s3://plant-archive/images/line3", date, lot, name, "/")
    halves = np.stack([scrambled(numbers, 2 * version), scrambled(numbers, 2 * version + 1)], axis=1)  # (n, 2)
    etags = pa.array(np.frombuffer(halves.tobytes().hex().encode(), "S32").astype("U32"), pa.string())
    seconds = pa.array(
        MAY_1 + numbers // DAY * DAY_S + numbers % DAY * 3 + halves[:, 0].astype(np.int64) % 3, pa.timestamp("s")
    )
    stamps = pc.binary_join_element_wise("STANDARD", pc.strftime(seconds, "%Y-%m-%dT%H:%M:%SZ"), " ")
    return pa.table(
        [pc.binary_join_element_wise(names, "jpg", "."), etags, stamps, date, pa.nulls(len(numbers), pa.int32())], OBJECTS
    )


def padded(numbers: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def scrambled(numbers: np.ndarray, salt: int) -> np.ndarray:
    """64 bits that look random. Source: Steele, Lea, Flood 2014, SplitMix."""
    mixed = (numbers.astype(np.uint64) + np.uint64(salt) * np.uint64(1 << 40)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


if __name__ == "__main__":
    main()
