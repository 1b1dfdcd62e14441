"""Time per image and the driver's memory as the archive grows a hundredfold.

    PYTHONPATH=. python docs/benchmarks/throughput/scaling.py FOLDER [IMAGES ...]

Pictures of 64 x 64 pixels as JPEG in tar shards, the same few shards hard-linked under new names, in FOLDER; scored by an
untrained model of a few channels (default 2000 20000 200000). Each run is a `flowscore score` in a process of its own. The
start is a run of one small shard; that and the first count, in which the start weighs most, are medians of REPEATS runs.
Prints one line of JSON a count: milliseconds an image after the start, that and the driver's largest resident set as ratios
to the first count's, and what the stages spent. Takes 15 minutes of two cores.
"""

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from models import artifact, registry
from models.backbones import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features import ImageFeatures
from pipeline.query import connect

SIZE_PX, SHARD, DISTINCT, FEW, REPEATS = 64, 1000, 2, 64, 3
CONFIG = ArtifactConfig(
    name="scaling",
    backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
    input=InputConfig(height=SIZE_PX, width=SIZE_PX),
    batch_size=64,
    hyperparameters={"whiten_dims": 4, "hidden": 4, "kernels": [3]},
)


def pictures(count: int, seed: int) -> np.ndarray:
    """(count, SIZE_PX, SIZE_PX, 3) uint8: smooth, so that a JPEG of one takes 1 to 2 KB."""
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


def scored(folder: Path, images: int) -> tuple[float, int]:
    """Seconds of `flowscore score` from start to exit, and the largest resident set of its own process, bytes."""
    output = folder / f"out-{images}"
    shutil.rmtree(output, ignore_errors=True)
    command = ["--model", folder / "model", "--input", folder / f"in-{images}", "--output", output]
    clock = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "jobs.score", *command], stdout=subprocess.DEVNULL)
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
    if process.wait():
        raise SystemExit(f"flowscore score ended with {process.returncode}")
    return time.monotonic() - clock, peak


def repeated(folder: Path, images: int, repeats: int) -> tuple[float, int]:
    """Medians of what `scored` gives."""
    archive(folder / f"in-{images}", images)
    runs = [scored(folder, images) for _ in range(repeats)]
    return statistics.median(seconds for seconds, _ in runs), int(statistics.median(peak for _, peak in runs))


def stages(folder: Path, images: int) -> dict[str, float]:
    """Milliseconds an image that every stage spent, summed over its tasks."""
    rows = connect(str(folder / f"out-{images}")).connection.execute("select stage_seconds from runs").fetchall()
    return {name: round(1e3 * spent / images, 3) for (text,) in rows for name, spent in json.loads(text).items()}


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    counts = [int(text) for text in sys.argv[2:]] or [2_000, 20_000, 200_000]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(DISTINCT):
        (folder / f"shard-{number}.tar").write_bytes(shard(SHARD, number))
    fit(folder / "model")
    start_s, start_peak = repeated(folder, FEW, REPEATS)
    print(json.dumps({"images": FEW, "seconds": round(start_s, 1), "driver_mib": round(start_peak / 2**20)}), flush=True)
    first: tuple[float, int] | None = None
    for images in counts:
        seconds, peak = repeated(folder, images, 1 if first else REPEATS)
        each = (seconds - start_s) / (images - FEW)
        first = first or (each, peak)
        figures = {
            "images": images,
            "seconds": round(seconds, 1),
            "ms_an_image_after_start": round(1e3 * each, 3),
            "time_ratio": round(each / first[0], 3),
            "driver_mib": round(peak / 2**20),
            "driver_ratio": round(peak / first[1], 3),
            "stage_ms": stages(folder, images),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
