"""The config of a CS-Flow that is built quickly, for tests of the code around a model."""

from typing import Any

import torch

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun

TINY_CASE = {
    "about": "for tests",
    "detector": "csflow",
    "backbone": "test_resnet",
    "taps": ["layer2"],
    "size_px": 64,
    "hyperparameters": {"whiten_dims": 4, "hidden": 4, "kernels": [3]},
}
"""A case of `flowscore bench`, as its file of cases has it."""


BRIEF_MEMBERS: dict[str, Any] = {
    "members": [
        {
            "detector": "csflow",
            "hyperparameters": TINY_CASE["hyperparameters"],
            "training": {"epochs": 2, "epoch_steps": 0, "batch_size": 4},
        },
        {"detector": "padim", "hyperparameters": {"dims": 8}},
    ]
}
"""Hyper-parameters of an ensemble that is fitted quickly."""


def tiny_config(**fields: Any) -> ArtifactConfig:
    """A config with an untrained backbone at 64 x 96 pixels; `fields` replace its own."""
    config: dict[str, Any] = {
        "name": "tiny",
        "backbone": BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
        "input": InputConfig(height=64, width=96),
        "hyperparameters": {"whiten_dims": 4, "hidden": 4, "kernels": [3]},
    }
    return ArtifactConfig(**(config | fields))


class _Drawn:
    """Features of a few drawn images, computed once."""

    def __init__(self, detector: Detector, count: int) -> None:
        size = detector.config.input
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 255, (count, size.height, size.width, 3), generator=generator).to(torch.uint8)
        self._maps = detector.extract(images)

    def read(self, positions: torch.Tensor) -> list[torch.Tensor]:
        return [maps[positions] for maps in self._maps]


def tiny_fitted(config: ArtifactConfig, count: int = 8) -> Detector:
    """A detector of `tiny_config`, fitted for a moment to noise, so that scores differ from picture to picture."""
    detector = registry.build(config)
    detector.fit(_Drawn(detector, count), torch.arange(count), FitRun(detector.Training(epochs=1, epoch_steps=0)))
    return detector
