"""The models that the cases score with: each detector trained for a moment, and two untrained ones for rates."""

import os
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from cases.place import Place

from models import artifact, registry
from models.artifact import Artifact
from models.backbones.config import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features.store import ImageFeatures

DETECTORS = ("csflow", "padim", "fastflow", "cflow", "differnet", "patchsvdd")
STEPS = {"cuda": 20, "cpu": 0}  # of an epoch, at least
WEIGHTS = "assets/weights/mobilenetv1_100_imagenet.safetensors"
SMALL: dict[str, dict[str, Any]] = {"patchsvdd": {"bank_size": 2000}, "padim": {"dims": 64}}


def config_of(detector: str, place: Place) -> ArtifactConfig:
    weights = str(Path(os.environ["FLOWSCORE_ASSETS"]) / WEIGHTS)
    return ArtifactConfig(
        name=detector,
        detector=detector,
        input=InputConfig(height=place.side_px, width=place.side_px),
        backbone=None if detector == "patchsvdd" else BackboneConfig(name="mobilenetv1_100", weights=weights),
        batch_size=16 if place.on_gpu else 4,
        hyperparameters=SMALL.get(detector, {}),
        trained={"versions": {"timm": timm.__version__}},  # else loading runs the network
    )


def trained(detector: str, place: Place) -> Artifact:
    """The detector in float32, fitted to the good tiles on the device for two epochs; it is made once."""
    kept = place.folder / detector
    if not kept.exists():
        artifact.save(kept, config_of(detector, place), fitted(detector, place), card=f"# {detector}")
    return artifact.read(kept)


def fitted(detector: str, place: Place) -> Any:
    """The fitted detector, on the device."""
    made = registry.build(config_of(detector, place)).to(place.device)
    short = {"epochs": 2, "epoch_steps": STEPS[place.device]}
    training = made.Training(**{name: value for name, value in short.items() if name in made.Training.model_fields})
    with tempfile.TemporaryDirectory(dir=place.folder) as workspace, _stored(made, workspace, place) as images:
        for batch in torch.from_numpy(place.tiles()[: place.good]).split(8):
            images.append(batch)
        made.fit(images, torch.arange(place.good), FitRun(training=training, device=place.device))
    return made


def _stored(made: Any, workspace: str, place: Place) -> ImageFeatures:
    return ImageFeatures(made, Path(workspace), "good", place.device)


def changed(opened: Artifact, **fields: Any) -> Artifact:
    """The artifact with other fields of its config, such as precision and batch_size, and the same weights."""
    return Artifact(opened.directory, opened.config.model_copy(update=fields), opened.model_digest, opened.calibration_digest)
