"""The same images scored once as loose objects and once as tar shards, from one S3 server.

    docs/benchmarks/throughput/with_s3.sh PYTHON docs/benchmarks/throughput/small_files.py s3://bench [--images 2000]

Demo pictures of 288 x 288 pixels as JPEG, 27 a shard; an untrained CS-Flow at 256 pixels. Each form is scored by `flowscore
score` in a process of its own, one shard of each first. Prints one JSON document: images a second from start to exit and
after the start (the run of one shard subtracted), the ratios of loose objects to tars, and whether both gave the same
scores. Takes 6 minutes of two cores.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from jobs.benchmark.cases import DEFAULT, cases
from jobs.benchmark.inputs import untrained
from jobs.drawn.archive import make, orders
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

DISTINCT = 480


def fill(bucket: str, images: int) -> dict[str, int]:
    """Put about so many images into the bucket in both forms, and the first shard of them by itself; gives the counts."""
    counts = {"few": 0, "all": 0}
    shards = list(make(orders(min(images, DISTINCT), archive=False, seed=0)))
    number = 0
    while counts["all"] < images:
        members = read(shards[number % len(shards)].tar)
        for name in ("few", "all") if number == 0 else ("all",):
            open_store(f"{bucket}/{name}-tars").put_new(f"{number:05d}.tar", shards[number % len(shards)].tar)
            loose = open_store(f"{bucket}/{name}-loose")
            for member, content in members:
                loose.put_new(f"{number:05d}/{member}", content)
            counts[name] += len(members)
        number += 1
    return counts


def read(shard: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        return [(member.name, file.read()) for member in tar if (file := tar.extractfile(member)) is not None]


def seconds(bucket: str, name: str, model: Path) -> float:
    command = ["--model", model, "--input", f"{bucket}/{name}", "--output", f"{bucket}/tables-{name}"]
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jobs.cli", "score", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - clock


def scores(bucket: str, name: str) -> list[float]:
    rows = open_tables(f"{bucket}/tables-{name}").connection.execute("select score from scores order by score").fetchall()
    return [score for (score,) in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bucket")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--precision", default="bf16", choices=["float32", "bf16"])
    asked = parser.parse_args()
    counts = fill(asked.bucket, asked.images)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        config = cases({})[DEFAULT].model_copy(update={"precision": asked.precision}).config("small-files")
        model = untrained(Path(folder) / "model", config)
        for form in ("tars", "loose"):
            few_s, all_s = (seconds(asked.bucket, f"{name}-{form}", model) for name in ("few", "all"))
            rates[form] = {
                "start_to_exit_per_s": counts["all"] / all_s,
                "after_the_start_per_s": (counts["all"] - counts["few"]) / (all_s - few_s),
            }
    ratios = {f"{name}_ratio": rates["loose"][name] / rates["tars"][name] for name in rates["tars"]}
    same = scores(asked.bucket, "all-tars") == scores(asked.bucket, "all-loose")
    print(json.dumps({"images": counts["all"], **rates, **ratios, "same_scores": same}, indent=1))


if __name__ == "__main__":
    main()
