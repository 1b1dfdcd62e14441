"""Do fp16 scores rank the magnetic tiles as float32 scores do? Every detector, trained once in float32, scored in both.

    PYTHONPATH=. FLOWSCORE_ASSETS=FOLDER python docs/benchmarks/gpu/fp16_on_tiles.py [--fit-images 160] [--every 1]

fp16 is emulated where there is no GPU: it rounds at the same places (models/precision.py). Images are 256 x 256 pixels, the
backbone is MobileNetV1 with ImageNet's weights, and the training is brief, because only the difference between two scores of
one model counts. Writes fp16_on_tiles.md beside this file and exits with 1 if a detector misses the bar. Takes minutes of one
core.
"""

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from models import registry
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.features.store import ImageFeatures
from models.metrics.ranking import auroc

SIZE_PX, BATCH = 256, 16
BRIEF = {"epochs": 3}
TRAINING = {"patchsvdd": {"epochs": 1, "epoch_steps": 100, "pairs_per_image": 6}, "padim": {}}
SIX = [name for name in registry.names() if name != "ensemble"]  # which is made of these
HYPERPARAMETERS = {"patchsvdd": {"bank_size": 4000}}
MOST_AUROC_POINTS, LEAST_RANK_CORRELATION = 0.1, 0.9999
REPORT = Path(__file__).with_suffix(".md")


class Compared(NamedTuple):
    """auroc32, auroc16: percent. largest: change of a score over the score. extremes: finite fp16 scores of images like none
    of the training's, of how many."""

    detector: str
    auroc32: float
    auroc16: float
    rank_correlation: float
    largest: float
    finite_extremes: int
    extremes: int

    def holds(self) -> bool:
        return abs(self.auroc16 - self.auroc32) <= MOST_AUROC_POINTS and self.rank_correlation >= LEAST_RANK_CORRELATION

    def row(self) -> str:
        return (
            f"| {self.detector} | {self.auroc32:.3f} | {self.auroc16:.3f} | {self.auroc16 - self.auroc32:+.4f} | "
            f"{self.rank_correlation:.7f} | {self.largest:.1e} | {self.finite_extremes} of {self.extremes} |"
        )


def pictures(paths: list[Path]) -> Tensor:
    """(N, H, W, 3) uint8."""
    images = [Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR) for path in paths]
    return torch.from_numpy(np.stack([np.array(image) for image in images]))


def extremes() -> Tensor:
    """Black, white, noise, a board of 8 pixels and one of single pixels, (5, H, W, 3) uint8."""
    noise = torch.randint(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    at = torch.arange(SIZE_PX)
    boards = [((at[:, None] // side + at // side) % 2 * 255).to(torch.uint8) for side in (8, 1)]
    flat = [torch.full((SIZE_PX, SIZE_PX, 3), value, dtype=torch.uint8) for value in (0, 255)]
    return torch.stack([*flat, noise, *(board[:, :, None].expand(-1, -1, 3) for board in boards)])


def build(name: str, precision: str) -> Detector:
    size = InputConfig(height=SIZE_PX, width=SIZE_PX)
    own = HYPERPARAMETERS.get(name, {})
    config = {"detector": name, "input": size, "precision": precision, "batch_size": BATCH, "hyperparameters": own}
    return registry.build(ArtifactConfig.model_validate({"name": "tiles"} | config))


def compared(name: str, fit: Tensor, test: Tensor, defects: np.ndarray) -> Compared:
    exact = build(name, "float32")
    settings = exact.Training.model_validate(TRAINING.get(name, BRIEF))
    with tempfile.TemporaryDirectory() as folder, ImageFeatures(exact, Path(folder), "fit") as features:
        for images in fit.split(BATCH):
            features.append(images)
        exact.fit(features, torch.arange(len(fit)), FitRun(settings, seed=0))
    rounded = build(name, "fp16")
    rounded.load_state_dict(exact.state_dict())
    ones, others = (detector.freeze().score(test).score.double().numpy() for detector in (exact, rounded))
    if not (np.isfinite(ones).all() and np.isfinite(others).all()):
        sys.exit(f"{name}: scores must be finite; {np.isfinite(others).sum()} of {len(others)} are in fp16")
    odd = rounded.score(extremes()).score
    return Compared(
        name,
        100 * auroc(ones, defects),
        100 * auroc(others, defects),
        float(spearmanr(ones, others).statistic),
        float(np.abs(others / ones - 1).max()),
        int(torch.isfinite(odd).sum()),
        len(odd),
    )


def report(rows: list[Compared], fit_images: int, goods: int, defects: int) -> str:
    return f"""# fp16 against float32 on the magnetic tiles

`docs/benchmarks/gpu/fp16_on_tiles.py` wrote this on {platform.machine()} with torch {torch.__version__}, fp16 emulated on a
CPU: {fit_images} good images to fit, {goods} good and {defects} defective ones to score, {SIZE_PX} pixels, MobileNetV1, brief
trainings. The bar: AUROC within {MOST_AUROC_POINTS} points and a rank correlation (Spearman) of at least
{LEAST_RANK_CORRELATION}. The last column counts finite fp16 scores of a black, a white, a noisy and two chequered images; what
overflows has no score.

| detector | AUROC float32 | AUROC fp16 | points | rank correlation | largest relative change | extremes with a score |
|---|---|---|---|---|---|---|
{chr(10).join(row.row() for row in rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit-images", type=int, default=160)
    parser.add_argument("--every", type=int, default=1, help="of the test images, one in so many is scored")
    parser.add_argument("--detectors", nargs="+", default=SIX, choices=registry.names())
    arguments = parser.parse_args()
    tiles = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    good = sorted((tiles / "train" / "good").iterdir())
    fit = pictures(good[:: max(1, math.floor(len(good) / arguments.fit_images))][: arguments.fit_images])
    paths = sorted((tiles / "test").glob("*/*"))[:: arguments.every]
    test, defects = pictures(paths), np.array([path.parent.name != "good" for path in paths])
    rows = []
    for name in arguments.detectors:
        started = time.monotonic()
        rows.append(compared(name, fit, test, defects))
        print(f"{rows[-1].row()} {time.monotonic() - started:.0f} s", flush=True)
        REPORT.write_text(report(rows, len(fit), int((~defects).sum()), int(defects.sum())), encoding="utf-8")
    sys.exit(not all(row.holds() for row in rows))


if __name__ == "__main__":
    main()
