"""The default inputs of `flowscore bench`: made-up images in tar shards, and untrained models."""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from jobs.drawn.archive import make, orders
from models import artifact, registry
from models.config import ArtifactConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from pipeline.storage.store import Store

DISTINCT = 480
IMAGES = 8  # to fit a model to
SHARD_IMAGES = 40
JPEG_QUALITY = 90


def fill(store: Store, images: int, size: tuple[int, int] | None = None, seed: int = 0) -> int:
    """Put shards of at least `images` pictures into the store: copies of a few distinct ones under new keys.

    Args:
        size: (width, height) of the pictures, px; None for 480 distinct demo pictures.
    Returns:
        the number of images put there.
    """
    if size is None:
        shards = [(s.key, s.tar, len(s.truth)) for s in make(orders(min(images, DISTINCT), archive=False, seed=seed))]
    else:
        shards = [("texture.tar", _tar(jpegs(*size, SHARD_IMAGES, seed)), SHARD_IMAGES)]
    count = copy = 0
    while count < images:
        for key, tar, held in shards:
            store.put_new(f"copy-{copy:05d}/{key}", tar)
            count += held
        copy += 1
    return count


def _tar(contents: Iterator[bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def jpegs(width: int, height: int, count: int, seed: int = 0) -> Iterator[bytes]:
    """Colour JPEGs (4:2:0, quality 90) of a texture of several scales with the noise of a sensor."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        grey = np.zeros((height, width), np.float32)
        for scale in (2, 4, 16, 64):
            coarse = random.standard_normal((height // scale + 2, width // scale + 2), np.float32)
            grey += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        levels = 128 + 35 * grey / grey.std()
        colour = np.stack([0.9 * levels + 10, levels, 1.05 * levels], 2)  # (H, W, 3)
        colour += 3 * random.standard_normal(colour.shape, np.float32)
        out = io.BytesIO()
        Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=2)
        yield out.getvalue()


def untrained(directory: Path, config: ArtifactConfig) -> Path:
    """An artifact of the config, fitted to a few images of noise in as few steps as possible.

    It is as fast as a trained one: PaDiM's Gaussians have their full rank, and Patch SVDD's bank is filled up.
    """
    detector = registry.build(config)
    height, width = config.input.height, config.input.width
    generator = torch.Generator().manual_seed(0)
    least = {"epochs": 1, "epoch_steps": 0, "pairs_per_image": 1}
    training = detector.Training(**{name: value for name, value in least.items() if name in detector.Training.model_fields})
    with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "noise") as images:
        images.append(torch.randint(0, 256, (IMAGES, height, width, 3), generator=generator, dtype=torch.uint8))
        detector.fit(images, torch.arange(IMAGES), FitRun(training))
    known = config.model_copy(update={"trained": {"versions": {"timm": version("timm")}}})  # else the driver loads the model
    artifact.save(directory, known, detector, "# Untrained model, for measuring speed only\n")
    return directory
