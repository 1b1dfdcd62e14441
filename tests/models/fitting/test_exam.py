"""The exam tells how far it is, so that minutes of it are no silence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import registry
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun, Work
from models.features.store import ImageFeatures
from models.fitting.exam import Exam
from models.maps.content_box import Box


def test_every_batch_is_told_and_the_total_is_what_will_be_done(tmp_path: Path) -> None:
    config = {"name": "tiny", "detector": "patchsvdd", "input": InputConfig(height=64, width=64)}
    detector = registry.build(ArtifactConfig(**config, hyperparameters={"bank_size": 8}))
    told: list[Work] = []
    with ImageFeatures(detector, tmp_path, "good") as images, ImageFeatures(detector, tmp_path, "synthetic") as defects:
        images.append(torch.randint(0, 256, (24, 64, 64, 3), dtype=torch.uint8))
        exam = Exam(detector, images, torch.arange(4, 24), defects, FitRun(detector.Training(), on_work=told.append))
        exam.make(torch.arange(4))
    making = [work for work in told if work.what == "making synthetic defects"]
    # 20 images a batch of 16 and one of 4: three severities tried and the one that is made, of eight families.
    assert [work.done for work in making] == [20 * times + part for times in range(32) for part in (0, 16)]
    assert {work.total for work in making} == {32 * 20}
    scoring = [work for work in told if work.what == "scoring good images and synthetic defects"]
    assert [work.done for work in scoring] == [20 * times + part for times in range(9) for part in (0, 16)]
    assert {work.total for work in scoring} == {9 * 20}


@pytest.mark.parametrize("known", [False, True])
def test_of_a_padded_image_only_the_picture_gives_the_largest_map_value(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "name": "tiny",
        "detector": "patchsvdd",
        "input": InputConfig(height=64, width=64, resize="pad" if known else "squash"),
    }
    detector = registry.build(ArtifactConfig(**config, hyperparameters={"bank_size": 8}))
    boxes = [Box(0, 24, 64, 40), Box(0, 0, 32, 64), Box(0, 16, 64, 48), Box(0, 0, 64, 64)]

    def at_map_size(maps: torch.Tensor) -> torch.Tensor:
        """Rises downwards and to the right."""
        return torch.arange(64.0).view(1, 8, 8).expand(len(maps), 8, 8)

    with ImageFeatures(detector, tmp_path, "good") as images, ImageFeatures(detector, tmp_path, "synthetic") as defects:
        images.append(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
        images.boxes = boxes if known else None
        exam = Exam(detector, images, torch.tensor([1, 2]), defects, FitRun(detector.Training()))
        exam.make(torch.tensor([0, 3]))
        monkeypatch.setattr(detector, "at_map_size", at_map_size)
        maxima = exam.take()[1]
    assert maxima.dtype == np.float32
    assert maxima.tolist() == ([7 * 8 + 3, 5 * 8 + 7] if known else [63, 63])
