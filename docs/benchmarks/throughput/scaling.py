"""Peak memory of the driver of `flowscore score` as the archive grows.

    python docs/benchmarks/throughput/driver_memory.py FOLDER [IMAGES ...]

Makes demo shards of about 40 images, hard-linked under new names, in FOLDER/in-N for each N (default 2000 and 20000),
scores them with an untrained model at 64 pixels in a process of its own, and prints that process's largest resident set.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from jobs.bench_input import untrained
from jobs.demo_archive import make, orders

SIZE_PX = 64
DISTINCT = 480


def archive(folder: Path, images: int) -> int:
    """Shards with at least so many images: the same few again and again."""
    shards = list(make(orders(DISTINCT, archive=False, seed=0)))
    for number, shard in enumerate(shards):
        path = folder.parent / f"distinct-{number}.tar"
        path.write_bytes(shard.tar)
    folder.mkdir(parents=True)
    count = copy = 0
    while count < images:
        for number, shard in enumerate(shards):
            os.link(folder.parent / f"distinct-{number}.tar", folder / f"{copy:05d}-{number:02d}.tar")
            count += len(shard.truth)
        copy += 1
    return count


def peak_of(command: list[str]) -> int:
    """Largest resident set of the command's own process, bytes."""
    process = subprocess.Popen(command)
    watched = psutil.Process(process.pid)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    if process.returncode:
        raise SystemExit(f"flowscore score ended with {process.returncode}")
    return peak


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    model = untrained(folder / "model", SIZE_PX, "float32")
    for images in [int(text) for text in sys.argv[2:]] or [2_000, 20_000]:
        count = archive(folder / f"in-{images}", images)
        command = [sys.executable, "-m", "jobs.score", "--model", str(model)]
        started = time.monotonic()
        peak = peak_of([*command, "--input", str(folder / f"in-{images}"), "--output", str(folder / f"out-{images}")])
        print(f"{count:,} images: driver peak {peak / 2**20:.1f} MiB, {time.monotonic() - started:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
