"""What `flowscore bench` measures on when it is given nothing: demo images in tar shards, and a model that was not trained."""

from pathlib import Path

import torch

from jobs.demo_archive import make, orders
from models import artifact, registry
from models.backbones import BackboneConfig
from models.config import ArtifactConfig
from models.detectors.csflow import CsFlow
from models.whitening import Moments
from pipeline.storage import Store

DISTINCT = 480
BATCHES = 2


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
    """A CS-Flow artifact (MobileNetV1, default settings) with random weights: as fast as a trained one, and of no other use."""
    config = ArtifactConfig.model_validate(
        {
            "name": "bench-untrained",
            "precision": precision,
            "input": {"height": image_size, "width": image_size},
            "backbone": BackboneConfig(weights="none").model_dump(),
        }
    )
    detector = registry.build(config)
    assert isinstance(detector, CsFlow)
    generator = torch.Generator().manual_seed(0)
    moments: list[Moments] = []
    for _ in range(BATCHES):
        images = torch.randint(0, 256, (4, image_size, image_size, 3), generator=generator, dtype=torch.uint8)
        maps = detector.extract(images)
        moments = moments or [Moments(scale.shape[1]) for scale in maps]
        for moment, scale in zip(moments, maps, strict=True):
            moment.update(scale)
    detector.fit_whitening(moments)
    artifact.save(directory, config, detector, "# Untrained model, for measuring speed only\n")
    return directory
