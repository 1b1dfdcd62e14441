"""Time per image and the driver's memory as the archive grows a hundredfold.

    PYTHONPATH=. python docs/benchmarks/throughput/scaling.py FOLDER [IMAGES ...]

Pictures of 128 x 128 pixels as JPEG in tar shards, the same few shards hard-linked under new names, in FOLDER; scored by a
small untrained model (default 2000 20000 200000). Each run is a `flowscore score` in a process of its own, timed from its first
commit to its exit, so without the start, which varies by more than 2,000 images take. What is decoded before that, a
fifteenth of an image's time at most, is not counted. What the end takes however few the images, a run of one small shard, is
subtracted; that and the first count are medians of REPEATS runs. Prints one line of JSON a count: milliseconds an image,
that and the driver's largest resident set as ratios to the first count's, and what the stages spent an image.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from PIL import Image

from models import artifact, registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from pipeline.tables.query import open_tables

SIZE_PX, SHARD, DISTINCT, FEW, REPEATS = 128, 1000, 2, 64, 3
CONFIG = ArtifactConfig(
    name="scaling",
    backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
    input=InputConfig(height=SIZE_PX, width=SIZE_PX),
    batch_size=64,
    hyperparameters={"whiten_dims": 16, "hidden": 32, "kernels": [3]},
)


def pictures(count: int, seed: int) -> np.ndarray:
    """(count, SIZE_PX, SIZE_PX, 3) uint8: smooth, so that a JPEG of one takes 3 KB."""
    random = np.random.default_rng(seed)
    coarse = [Image.fromarray(random.integers(60, 200, (8, 8, 3), np.uint8)) for _ in range(count)]
    return np.stack([np.asarray(picture.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)) for picture in coarse])


def shard(count: int, seed: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, pixels in enumerate(pictures(count, seed)):
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "JPEG", quality=90)
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = content.tell()
            content.seek(0)
            tar.addfile(member, content)
    return out.getvalue()


def archive(folder: Path, images: int) -> None:
    """So many images in `folder`, hard links to shards that lie beside it, and a last shard of what is left over."""
    folder.mkdir()
    for number in range(images // SHARD):
        os.link(folder.parent / f"shard-{number % DISTINCT}.tar", folder / f"{number:06d}.tar")
    if left := images % SHARD:
        (folder / "last.tar").write_bytes(shard(left, seed=DISTINCT))


def fit(model: Path) -> None:
    detector = registry.build(CONFIG)
    with tempfile.TemporaryDirectory() as scratch, ImageFeatures(detector, Path(scratch), "made-up") as images:
        images.append(torch.from_numpy(pictures(8, seed=0)))
        detector.fit(images, torch.arange(8), FitRun(detector.Training(**{"epochs": 1, "epoch_steps": 0})))
    artifact.save(model, detector.config, detector, "# A small untrained model\n")


@dataclass(frozen=True)
class Scored:
    """seconds: from start to exit.  after_s: from the first commit to the exit.  peak: largest resident set of the driver's
    process, bytes.  first: images in the first commit."""

    seconds: float
    after_s: float
    peak: int
    first: int


def scored(folder: Path, images: int) -> Scored:
    output = folder / f"out-{images}"
    shutil.rmtree(output, ignore_errors=True)
    command = ["--model", folder / "model", "--input", folder / f"in-{images}", "--output", output]
    clock = time.time()  # as the times of files are
    process = subprocess.Popen([sys.executable, "-m", "jobs.score", *command], stdout=subprocess.DEVNULL)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"flowscore score ended with {process.returncode}")
    end = time.time()
    commit = min(output.glob("_flowscore/ledgers/*/commits/*/*.parquet"), key=lambda path: path.stat().st_mtime)
    return Scored(end - clock, end - commit.stat().st_mtime, peak, pq.read_metadata(commit).num_rows)


def repeated(folder: Path, images: int, repeats: int) -> Scored:
    """The run whose time after the start is the median of so many."""
    archive(folder / f"in-{images}", images)
    return sorted((scored(folder, images) for _ in range(repeats)), key=lambda run: run.after_s)[repeats // 2]


def stages(folder: Path, images: int) -> dict[str, float]:
    """Milliseconds an image that every stage spent, summed over its tasks."""
    rows = open_tables(str(folder / f"out-{images}")).connection.execute("select stage_seconds from runs").fetchall()
    return {name: round(1e3 * spent / images, 3) for (text,) in rows for name, spent in json.loads(text).items()}


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    counts = [int(text) for text in sys.argv[2:]] or [2_000, 20_000, 200_000]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(DISTINCT):
        (folder / f"shard-{number}.tar").write_bytes(shard(SHARD, number))
    fit(folder / "model")
    few = repeated(folder, FEW, REPEATS)
    print(json.dumps({"images": FEW, "seconds": round(few.seconds, 1), "end_s": round(few.after_s, 2)}), flush=True)
    first: tuple[float, int] | None = None
    for images in counts:
        run = repeated(folder, images, 1 if first else REPEATS)
        each = (run.after_s - few.after_s) / (images - run.first)
        first = first or (each, run.peak)
        figures = {
            "images": images,
            "seconds": round(run.seconds, 1),
            "ms_an_image": round(1e3 * each, 3),
            "time_ratio": round(each / first[0], 3),
            "driver_mib": round(run.peak / 2**20),
            "driver_ratio": round(run.peak / first[1], 3),
            "stage_ms": stages(folder, images),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
