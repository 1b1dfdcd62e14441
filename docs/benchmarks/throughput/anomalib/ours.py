"""The product's PaDiM beside anomalib's: same pictures, architecture, weights and channels.

    PYTHONPATH=. python docs/benchmarks/throughput/anomalib/ours.py FOLDER ANOMALIB_PYTHON [--pictures 583]

ANOMALIB_PYTHON is the interpreter of an environment with anomalib, which theirs.py runs in. 160 good tiles are fitted to.
anomalib's settings are tried on `first` test tiles, its best and its default timed on `pictures` of them, and
`flowscore score` on `copies` of these and on few. Prints one JSON document: the rates, the product's with its start and without
(the run of few pictures subtracted), both models alone on batches in memory, the ratios, and the rank correlation of both
scores, as each side reads pictures and with the product's pixels on both. Needs FLOWSCORE_ASSETS. Without a GPU all of it
takes about 12 minutes of two cores.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from jobs.benchmark.rates import model_alone
from models import artifact, registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image
from pipeline.scoring.scorer import open_scorer
from pipeline.tables.query import open_tables

FITTED, FEW = 160, 16
THREADS, ALONE_S = 2, 15
SIZE, DIMS, LAYERS = 256, 100, ("blocks.1", "blocks.2", "blocks.3")


def prepare(folder: Path, first: int, pictures: int, copies: int) -> None:
    tiles = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    for name in ("train", "first", "distinct", "copies", "few"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for path in sorted((tiles / "train" / "good").iterdir())[:FITTED]:
        shutil.copyfile(path, folder / "train" / path.name)
    tested = sorted((tiles / "test").rglob("*.*"))
    spread = [tested[i * len(tested) // pictures] for i in range(min(pictures, len(tested)))]
    for i, path in enumerate(spread):
        name = f"{path.parent.name}-{path.name}"
        shutil.copyfile(path, folder / "distinct" / name)
        if i * first // len(spread) != (i - 1) * first // len(spread):
            shutil.copyfile(path, folder / "first" / name)
        if i < FEW:
            shutil.copyfile(path, folder / "few" / name)
        for copy in range(copies):
            shutil.copyfile(path, folder / "copies" / f"{copy:02d}-{name}")
    decode = DecodeConfig(height=SIZE, width=SIZE)
    for name in ("train", "distinct"):
        pixels = [decode_image(path.read_bytes(), decode).pixels for path in sorted((folder / name).iterdir())]
        np.save(folder / f"{name}.npy", np.stack(pixels))


def fit(folder: Path, precision: str) -> Path:
    """An artifact fitted to the same pictures with the same channels; scored by the map's maximum, as theirs."""
    config = ArtifactConfig(
        name="peer",
        detector="padim",
        precision=precision,
        input=InputConfig(height=SIZE, width=SIZE),
        backbone=BackboneConfig(taps=LAYERS),
        hyperparameters={"dims": DIMS, "score": "max"},
    )
    detector = registry.build(config)
    detector.load_state_dict({**detector.state_dict(), **load_file(folder / "theirs.safetensors")})
    pixels = torch.from_numpy(np.load(folder / "train.npy"))
    with tempfile.TemporaryDirectory() as scratch, ImageFeatures(detector, Path(scratch), "peer") as images:
        images.append(pixels)
        detector.fit(images, torch.arange(len(pixels)), FitRun(detector.Training()))
    model = folder / f"model-{precision}"
    shutil.rmtree(model, ignore_errors=True)
    artifact.save(model, config, detector, "# PaDiM as anomalib's, for a comparison\n")
    return model


def score(folder: Path, model: Path, pictures: str) -> tuple[float, dict[str, float]]:
    """Seconds of `flowscore score` from start to exit, and the score of every picture by its name."""
    output = folder / f"tables-{model.name}-{pictures}"
    shutil.rmtree(output, ignore_errors=True)
    command = ["-m", "jobs.cli", "score", "--model", f"{model}", "--input", f"{folder / pictures}", "--output", f"{output}"]
    clock = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - clock
    rows = open_tables(str(output)).connection.execute("select uri, score from scores").fetchall()
    return seconds, {uri.rpartition("/")[2]: value for uri, value in rows}


def rank_correlation(theirs: Path, scores: dict[str, float]) -> float:
    """Spearman's, of anomalib's scores of distinct pictures and the product's of their first copies."""
    with open(theirs, newline="", encoding="utf-8") as file:
        pairs = [(float(value), scores[f"00-{name}"]) for name, value in csv.reader(file)]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def ours(folder: Path, precision: str) -> dict[str, float]:
    model = fit(folder, precision)
    few_s, few = score(folder, model, "few")
    seconds, scores = score(folder, model, "copies")
    pixels = np.random.default_rng(0).integers(0, 255, (64, SIZE, SIZE, 3), np.uint8)
    return {
        "images": len(scores),
        "start_to_exit_per_s": len(scores) / seconds,
        "after_the_start_per_s": (len(scores) - len(few)) / (seconds - few_s),
        "few_s": few_s,
        "model_alone_per_s": model_alone(pixels, open_scorer(model, "auto", THREADS), ALONE_S).per_s,
        "rank_correlation": rank_correlation(folder / "theirs.csv", scores),
        "rank_correlation_same_pixels": rank_correlation(folder / "theirs-same-pixels.csv", scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("anomalib_python")
    parser.add_argument("--first", type=int, default=192)
    parser.add_argument("--pictures", type=int, default=583)
    parser.add_argument("--copies", type=int, default=8)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    prepare(folder, asked.first, asked.pictures, asked.copies)
    command = [asked.anomalib_python, Path(__file__).with_name("theirs.py"), folder]
    with open(folder / "theirs.jsonl", "w") as said:
        subprocess.run(command, check=True, stdout=said)
    lines = (folder / "theirs.jsonl").read_text().splitlines()
    theirs = [json.loads(line) for line in lines if line.startswith("{")]
    rates = {line["kind"]: line["images_per_s"] for line in theirs if line["kind"] != "first"}
    rates["best"] = max(rates["best"], rates["default"])
    figures: dict[str, object] = {"anomalib": theirs}
    for precision in ("float32", "bf16"):
        found = ours(folder, precision)
        ratios = {
            f"{name}_to_{kind}": found[f"{name}_per_s"] / rates[kind]
            for name, kind in (
                ("start_to_exit", "best"),
                ("after_the_start", "best"),
                ("start_to_exit", "default"),
                ("after_the_start", "default"),
                ("model_alone", "model_alone"),
            )
        }
        figures[precision] = {name: round(value, 5) for name, value in (found | ratios).items()}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
