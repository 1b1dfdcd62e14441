"""The config of a CS-Flow that is built quickly, for tests of the code around a model."""

from typing import Any

from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig

TINY_CASE = {
    "about": "for tests",
    "detector": "csflow",
    "backbone": "test_resnet",
    "taps": ["layer2"],
    "size_px": 64,
    "hyperparameters": {"whiten_dims": 4, "hidden": 4, "kernels": [3]},
}
"""A case of `flowscore bench`, as its file of cases has it."""


def tiny_config(**fields: Any) -> ArtifactConfig:
    """A config with an untrained backbone at 64 x 96 pixels; `fields` replace its own."""
    config: dict[str, Any] = {
        "name": "tiny",
        "backbone": BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
        "input": InputConfig(height=64, width=96),
        "hyperparameters": {"whiten_dims": 4, "hidden": 4, "kernels": [3]},
    }
    return ArtifactConfig(**(config | fields))
