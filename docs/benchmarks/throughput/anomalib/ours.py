"""The product's PaDiM beside anomalib's: same pictures, architecture, weights and channels, whole commands on both sides.

    PYTHONPATH=. python docs/benchmarks/throughput/anomalib/ours.py FOLDER ANOMALIB_PYTHON [--pictures 583] [--copies 10]

ANOMALIB_PYTHON is the interpreter of an environment with anomalib, which theirs.py runs in. 160 good tiles are fitted to, and
test tiles scored, each so many times. Prints the rank correlation of both scores, anomalib's settings with their rates, the
product's (`flowscore score` from start to exit), and its ratios to anomalib's best and default. Needs FLOWSCORE_ASSETS.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from models import artifact, registry
from models.backbones import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features import ImageFeatures
from pipeline.decode import DecodeConfig, decode_image
from pipeline.query import connect

FITTED = 160
SIZE, DIMS, LAYERS = 256, 100, ("blocks.1", "blocks.2", "blocks.3")


def prepare(folder: Path, pictures: int, copies: int) -> None:
    tiles = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    for name in ("train", "images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in sorted((tiles / "train" / "good").iterdir())[:FITTED]:
        shutil.copyfile(path, folder / "train" / path.name)
    tested = sorted((tiles / "test").rglob("*.*"))
    for path in tested[:: -(-len(tested) // pictures)]:
        for copy in range(copies):
            shutil.copyfile(path, folder / "images" / f"{copy:02d}-{path.parent.name}-{path.name}")


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
    decode = DecodeConfig(height=SIZE, width=SIZE)
    pixels = [decode_image(path.read_bytes(), decode).pixels for path in sorted((folder / "train").iterdir())]
    with ImageFeatures(detector, folder / f"features-{precision}", "peer") as images:
        images.append(torch.from_numpy(np.stack(pixels)))
        detector.fit(images, torch.arange(len(pixels)), FitRun(detector.Training()))
    model = folder / f"model-{precision}"
    shutil.rmtree(model, ignore_errors=True)
    artifact.save(model, config, detector, "# PaDiM as anomalib's, for a comparison\n")
    return model


def score(folder: Path, precision: str) -> dict[str, float]:
    output = folder / f"tables-{precision}"
    shutil.rmtree(output, ignore_errors=True)
    command = ["-m", "jobs.cli", "score", "--model", f"{fit(folder, precision)}", "--input", f"{folder / 'images'}"]
    clock = time.perf_counter()
    subprocess.run([sys.executable, *command, "--output", f"{output}"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - clock
    rows = connect(str(output)).connection.execute("select uri, score from scores").fetchall()
    ours = {uri.rpartition("/")[2]: value for uri, value in rows}
    with open(folder / "theirs.csv", newline="", encoding="utf-8") as file:
        theirs = {name: float(value) for name, value in csv.reader(file)}
    assert set(ours) == set(theirs)
    correlation = spearmanr([ours[name] for name in theirs], list(theirs.values())).statistic
    return {"images_per_s": len(ours) / seconds, "rank_correlation": float(correlation)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("anomalib_python")
    parser.add_argument("--pictures", type=int, default=583)
    parser.add_argument("--copies", type=int, default=10)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    prepare(folder, asked.pictures, asked.copies)
    theirs = Path(__file__).with_name("theirs.py")
    said = subprocess.run([asked.anomalib_python, theirs, folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    rates = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    default = next(rate["images_per_s"] for rate in rates if "default" in rate)
    best = max(rate["images_per_s"] for rate in rates)
    figures = {"anomalib": rates}
    for precision in ("float32", "bf16"):
        ours = score(folder, precision)
        figures[precision] = {name: round(value, 5) for name, value in ours.items()} | {
            "to_best": round(ours["images_per_s"] / best, 2),
            "to_default": round(ours["images_per_s"] / default, 2),
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
