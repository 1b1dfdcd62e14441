"""What `flowscore bench` measures on when it is given nothing: demo images in tar shards, and a model that was not trained."""

import tempfile
from pathlib import Path

import torch

from jobs.demo_archive import make, orders
from models import artifact, registry
from models.backbones import BackboneConfig
from models.config import ArtifactConfig
from models.detector import FitRun
from models.features import ImageFeatures
from pipeline.storage import Store

DISTINCT = 480
IMAGES = 8  # that the model is fitted to


def fill(store: Store, images: int, seed: int = 0) -> int:
    """Put demo shards of at least `images` pictures into the store: 480 distinct ones, again and again under new keys.

    Returns:
        the number of images put there.
    """
    shards = list(make(orders(min(images, DISTINCT), archive=False, seed=seed)))
    count = copy = 0
    while count < images:
        for shard in shards:
            store.put_new(f"copy-{copy:05d}/{shard.key}", shard.tar)
            count += len(shard.truth)
        copy += 1
    return count


def untrained(directory: Path, image_size: int, precision: str) -> Path:
    """A CS-Flow artifact (MobileNetV1 with random weights, default settings), hardly trained: as fast as any other."""
    config = ArtifactConfig.model_validate(
        {
            "name": "bench-untrained",
            "precision": precision,
            "input": {"height": image_size, "width": image_size},
            "backbone": BackboneConfig(weights="none").model_dump(),
        }
    )
    detector = registry.build(config)
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "noise") as images:
        images.append(torch.randint(0, 256, (IMAGES, image_size, image_size, 3), generator=generator, dtype=torch.uint8))
        detector.fit(images, torch.arange(IMAGES), FitRun(detector.Training(**{"epochs": 1, "epoch_steps": 0})))
    artifact.save(directory, config, detector, "# Untrained model, for measuring speed only\n")
    return directory
