"""One partition of 20 million rows: its publication, two nights into it, and a compaction, from made-up commits.

    PYTHONPATH=. python docs/benchmarks/ledger/large_slice.py FOLDER [--images 20000000] [--unit 12500] [--map-side 0]
        [--tasks 16] [--memory-gib 32]

Seals a slice of loose images of one month in FOLDER, commits all of its units, and publishes it by Ray tasks, so many of which
are asked for at once; Ray is told that there is so much memory for them. Then come nights of 100 images, 10 of which replace
images of the slice: of one lot the first time, spread over the month later. The compaction runs in the driver, as
`finalize --compact` does it. Every step is a process of its own and prints a line of JSON: `cpu_s` are seconds of
processor, memory is the largest resident set, MB are 10^6 bytes that were written to storage. Maps are null, or of random
bytes and so many cells a side. Needs 6 GB of disk at full size; FOLDER is left.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from made_up_month import MODEL, Month, create, seal

from pipeline.state.ledger import Ledger
from pipeline.tables.compaction import compact
from pipeline.tables.held import HoldLimits
from pipeline.tables.publication import MapFunction
from pipeline.tables.publish_slice import TASK_BYTES, publish_slice
from pipeline.tables.query import open_tables

NIGHTS = ("night-of-one-lot", "night-of-the-month", "night-after-compaction")
STEPS = ("make", "publish", "check", *NIGHTS[:2], "compact", *NIGHTS[2:], "check")
NEW, REPLACED = 90, 10


class Done(NamedTuple):
    """A job's result; when it ran, seconds since the epoch; its seconds of processor; its process's peak, bytes."""

    result: Any
    began: float
    ended: float
    cpu_s: float
    peak: int


@dataclass
class Tasks:
    """A map function that runs jobs by another one, and keeps what each took."""

    map_fn: MapFunction
    done: list[Done] = field(default_factory=list)

    def map(self, function: Callable, jobs: Iterable) -> Iterator:
        def timed(job: Any) -> Done:
            began, cpu_s = time.time(), time.process_time()
            result = function(job)
            cpu_s = time.process_time() - cpu_s
            return Done(result, began, time.time(), cpu_s, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

        for each in self.map_fn(timed, jobs):
            self.done.append(each._replace(result=None))
            yield each.result

    def figures(self) -> dict[str, Any]:
        if not self.done:
            return {}
        at_once = max(sum(other.began <= each.began < other.ended for other in self.done) for each in self.done)
        return {
            "jobs": len(self.done),
            "jobs_at_once": at_once,
            "jobs_cpu_s": round(sum(each.cpu_s for each in self.done), 1),
            "job_peak_mb": round(max(each.peak for each in self.done) / 1e6),
        }


def replaced(month: Month, number: int) -> np.ndarray:
    """The numbers that a night holds again: of one lot, or spread over the month; none twice."""
    if number:
        return np.arange(REPLACED) * (month.images // REPLACED) + month.images // (2 * REPLACED) + number
    return month.images // 3 + np.arange(REPLACED)


def written(ledger: Ledger) -> dict[str, int]:
    """Bytes by key of all objects of the output."""
    return {entry.key: entry.size for entry in ledger.store.list()}


def publish(month: Month, number: int, map_fn: MapFunction) -> dict[str, Any]:
    """Publish a slice and say what that took."""
    before, tasks, cpu_s = written(month.ledger), Tasks(map_fn), time.process_time()
    tally = publish_slice(month.ledger, number, HoldLimits(), tasks.map)
    cpu_s = time.process_time() - cpu_s
    new = {key: size for key, size in written(month.ledger).items() if key not in before}
    of_scores = [size for key, size in new.items() if key.startswith("scores/") and key.endswith(".parquet")]
    manifest = max((size for key, size in new.items() if "/publications/" in key), default=0)
    return {
        "scored": tally.scored,
        "files_of_scores": len(of_scores),
        "mb_of_scores": round(sum(of_scores) / 1e6, 1),
        "mb_in_all": round(sum(new.values()) / 1e6, 1),
        "manifest_kb": round(manifest / 1e3, 1),
        "driver_cpu_s": round(cpu_s, 1),
        **tasks.figures(),
    }


def night(month: Month, number: int, map_fn: MapFunction) -> dict[str, Any]:
    """A slice of 100 images, of which 10 replace images of the first one; each night has new ones of its own."""
    new = month.images + NEW * number + np.arange(NEW)
    return publish(month, seal(month, np.concatenate([replaced(month, number), new]), 1 + number), map_fn)


def compaction(ledger: Ledger) -> dict[str, Any]:
    before, cpu_s = written(ledger), time.process_time()
    merged = compact(ledger)
    cpu_s = time.process_time() - cpu_s
    new = sum(size for key, size in written(ledger).items() if key not in before)
    return {"merged": merged, "cpu_s": round(cpu_s, 1), "mb_in_all": round(new / 1e6, 1)}


def check(ledger: Ledger) -> dict[str, Any]:
    """Rows and image ids of `scores`; ids are counted by a hash of 64 bits, which can only make them fewer."""
    query = "select count(*), count(distinct hash(image_id)), count(distinct period) from scores"
    ((rows, images, partitions),) = open_tables(ledger.output_uri).connection.execute(query).fetchall()
    return {"rows": rows, "image_ids": images, "partitions": partitions}


def ray_map(tasks: int, memory_bytes: int) -> MapFunction:
    """The map function of a scoring run, on a Ray with so many cores."""
    import ray

    from pipeline.stages.cluster import Resources
    from pipeline.stages.engine import RayEngine
    from pipeline.stages.session_folder import session_folder

    ray.init("local", num_cpus=tasks, _memory=memory_bytes, include_dashboard=False, **session_folder().options())
    engine = RayEngine(None, Resources(), "cpu")
    engine.start()
    return partial(engine.map, memory_bytes=TASK_BYTES)


def step(asked: argparse.Namespace) -> dict[str, Any]:
    month = Month(Ledger(str(asked.folder.absolute()), MODEL), asked.images, asked.unit, asked.map_side)
    if asked.step == "make":
        create(month.ledger)
        return {"slice": seal(month, np.arange(month.images), 0), "mb": round(sum(written(month.ledger).values()) / 1e6)}
    if asked.step == "check":
        return check(month.ledger)
    if asked.step == "compact":
        return compaction(month.ledger)
    map_fn = ray_map(asked.tasks, int(asked.memory_gib * 2**30))
    if asked.step == "publish":
        return publish(month, 3, map_fn)
    return night(month, NIGHTS.index(asked.step), map_fn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000_000)
    parser.add_argument("--unit", type=int, default=12_500)
    parser.add_argument("--map-side", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--memory-gib", type=float, default=32)
    parser.add_argument("--step", choices=STEPS)
    asked = parser.parse_args()
    if asked.step is None:
        for each in STEPS:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--step", each], check=True)
        return
    began = time.monotonic()
    figures = step(asked)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    figures |= {"driver_peak_mb": peak, "wall_s": round(time.monotonic() - began)}
    print(json.dumps({"step": asked.step, **figures}), flush=True)


if __name__ == "__main__":
    main()
