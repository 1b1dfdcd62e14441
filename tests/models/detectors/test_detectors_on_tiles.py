"""Every detector on real magnetic tiles, fitted briefly: bf16 ranks as float32 does, and other things score above tiles."""

import csv
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images
from torch import Tensor

from models import registry
from models.backbones.backbone import KNOWN_FILES
from models.config import ArtifactConfig
from models.detector import Detector, FitRun
from models.features.store import ImageFeatures

ASSETS = os.environ.get("FLOWSCORE_ASSETS", "")
TILES = Path(ASSETS) / "assets" / "mtd"
WEIGHTS = Path(ASSETS) / KNOWN_FILES["mobilenetv1_100"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (ASSETS and TILES.is_dir() and WEIGHTS.is_file()),
        reason="assets/mtd or the MobileNetV1 weights are not there: set FLOWSCORE_ASSETS",
    ),
]

SIZE = 256
FIT_IMAGES = 160
HELD_OUT_FOLD = "0"  # its good images show tiles that none of the others shows
DEFECT_STEP = 3  # every third is scored
BATCH = 16
EPOCHS = {"patchsvdd": 4}  # of at least 170 steps: its encoder starts from nothing
BRIEF_EPOCHS = 3
LEAST_RANK_CORRELATION = 0.999
PERCENTILE = 99

PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
SURFACES = ("brick.png", "cell.png", "grass.png", "gravel.png", "ihc.png", "page.png", "retina.jpg", "text.png")
SCENES = ("china.jpg", "flower.jpg")
FOREIGN = (*PHOTOGRAPHS, *SCENES, *SURFACES)


class Fitted(NamedTuple):
    """A detector, and its float32 scores of good images of other tiles, (G,), and of defects, (D,)."""

    detector: Detector
    goods: np.ndarray
    defects: np.ndarray


def stretched(image: Image.Image) -> Tensor:
    """(H, W, 3) uint8, both sides fitted."""
    return torch.from_numpy(np.array(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)))


def centre(image: Image.Image) -> Image.Image:
    """The middle at the image's own resolution."""
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return image.crop((left, top, left + SIZE, top + SIZE))


def tiles(paths: list[str]) -> Tensor:
    """(N, H, W, 3) uint8."""
    found = []
    for path in paths:
        with Image.open(TILES / path) as image:
            found.append(stretched(image))
    return torch.stack(found)


def evenly(paths: list[str], count: int) -> list[str]:
    return [paths[i * len(paths) // count] for i in range(count)]


def build(name: str, precision: str) -> Detector:
    return registry.build(ArtifactConfig(name="tiles", detector=name, precision=precision, batch_size=BATCH))


@pytest.fixture(scope="module")
def listed() -> dict[str, list[str]]:
    """Paths of the good images to fit to, of good images of other tiles, and of defects."""
    with open(TILES / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    goods = [row for row in rows if Path(row["path"]).parts[1] == "good"]  # a defect has its tile's fold, or none
    return {
        "fit": evenly([row["path"] for row in goods if row["fold"] != HELD_OUT_FOLD], FIT_IMAGES),
        "goods": [row["path"] for row in goods if row["fold"] == HELD_OUT_FOLD],
        "defects": [row["path"] for row in rows if row["fold"] == ""][::DEFECT_STEP],
    }


@pytest.fixture(scope="module")
def pixels(listed) -> dict[str, Tensor]:
    return {use: tiles(paths) for use, paths in listed.items()}


@pytest.fixture(scope="module")
def foreign() -> dict[str, Tensor]:
    """Photographs and other surfaces that come with scikit-image and scikit-learn, whole and their middles."""
    folder = Path(skimage.__file__).parent / "data"
    found = {}
    for name in (*PHOTOGRAPHS, *SURFACES):
        with Image.open(folder / name) as image:
            found[name] = image.convert("RGB")
    samples = load_sample_images()
    found |= {Path(name).name: Image.fromarray(image) for name, image in zip(samples.filenames, samples.images, strict=True)}
    whole = {name: stretched(found[name]) for name in FOREIGN}
    return whole | {f"{name}, middle": stretched(centre(found[name])) for name in FOREIGN if min(found[name].size) > SIZE}


@pytest.fixture(scope="module", params=[name for name in registry.names() if name != "ensemble"])  # made of these
def fitted(request, pixels, tmp_path_factory) -> Fitted:
    detector = build(request.param, "float32")
    brief = {"epochs": EPOCHS.get(request.param, BRIEF_EPOCHS)}
    settings = brief if "epochs" in detector.Training.model_fields else {}
    with ImageFeatures(detector, tmp_path_factory.mktemp(request.param), "good") as features:
        for images in pixels["fit"].split(BATCH):
            features.append(images)
        detector.fit(features, torch.arange(FIT_IMAGES), FitRun(detector.Training(**settings), seed=0))
    detector.freeze()
    return Fitted(detector, *(detector.score(pixels[use]).score.numpy() for use in ("goods", "defects")))


def test_bf16_ranks_images_as_float32_does(fitted, pixels):
    other = build(fitted.detector.config.detector, "bf16")
    other.load_state_dict(fitted.detector.state_dict())
    other.freeze()
    exact = np.concatenate([fitted.goods, fitted.defects])
    rounded = np.concatenate([other.score(pixels[use]).score.numpy() for use in ("goods", "defects")])
    assert len(exact) >= 120 and not np.array_equal(exact, rounded)
    assert spearmanr(exact, rounded).statistic >= LEAST_RANK_CORRELATION


def test_images_of_something_else_score_above_tiles(fitted, foreign):
    limit = np.percentile(fitted.goods, PERCENTILE)
    scores = fitted.detector.score(torch.stack(list(foreign.values()))).score.tolist()
    below = {name: score for name, score in zip(foreign, scores, strict=True) if not score > limit}
    assert not below, f"{len(below)} of {len(foreign)} images score at most {limit:.4g}: {below}"
