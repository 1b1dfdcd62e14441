"""Fitting a small detector on drawn surfaces: selection, the refit on both sets, and that calibration is never read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.detectors.csflow import CsFlow
from models.features.store import ImageFeatures
from models.fitting import synthetic
from models.fitting.fit import Fitted, fit

COUNT = 24


def detector(score: str | None = "mean") -> CsFlow:
    config = ArtifactConfig(
        name="small",
        input=InputConfig(height=64, width=64),
        backbone=BackboneConfig(weights="none"),
        hyperparameters={"hidden": 8, "whiten_dims": 8, "kernels": [3], "score": score},
    )
    built = registry.build(config)
    assert isinstance(built, CsFlow)
    return built


@pytest.fixture
def images(tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal((COUNT, 64, 64)), (0, 2, 2)) * 120 + 128
    pixels = torch.from_numpy(np.clip(noise, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=3))
    with ImageFeatures(detector(), tmp_path, "good") as stored:
        stored.append(pixels)
        yield stored


def fitted(model: Detector, images: ImageFeatures, selection: range, tmp_path: Path, epochs: int = 2, **told) -> Fitted:
    positions = torch.arange(16), torch.tensor(list(selection), dtype=torch.int64)
    run = FitRun(model.Training(**{"epochs": epochs, "batch_size": 4}))
    groups = [str(i // 2) for i in selection]
    return fit(model, images, *positions, groups, run, 2, tmp_path, **told)


def test_selection_takes_every_family_and_the_refit_uses_both_sets(images: ImageFeatures, tmp_path: Path) -> None:
    model, alone = detector(), detector()
    found = fitted(model, images, range(16, 22), tmp_path)
    assert found.chosen is not None and set(found.chosen.families) == set(synthetic.FAMILIES)
    assert set(found.severities) == set(synthetic.FAMILIES) and found.epochs in (1, 2)
    assert found.held_out_maxima.shape == (6,) and (found.held_out_maxima > 0).all()
    fitted(alone, images, range(0), tmp_path)
    assert not torch.equal(model.whitening.weight, alone.whitening.weight)  # the selection images are in the refit
    assert not list(tmp_path.glob("synthetic*"))


def test_held_out_images_are_counted_and_not_their_tiles(images: ImageFeatures, tmp_path: Path) -> None:
    """8 tiles of 2 images: enough tiles to weigh parts and to tell defects, and too few images. Their maps are whole ones."""
    lines: list[str] = []
    whole = [np.array([3.0, 4.0], np.float32)]
    told = {"say": lines.append, "image_groups": ["a", "b"], "whole_maxima": lambda frozen: whole.pop()}
    found = fitted(detector("joined"), images, range(16, 24), tmp_path, **told)
    assert not found.figures_say_something and not any("criterion" in line for line in lines)
    assert lines[0].endswith("for selection (--selection-share), and there are 2 of 2")
    assert found.held_out_maxima.tolist() == [3.0, 4.0] and not whole


def test_without_selection_the_schedule_is_run_to_its_end(images: ImageFeatures, tmp_path: Path) -> None:
    found = fitted(detector(), images, range(0), tmp_path, epochs=3)
    assert found.epochs == 3 and not found.history and not len(found.held_out_maxima)


def test_images_of_neither_set_are_never_read(images: ImageFeatures, tmp_path: Path) -> None:
    read: set[int] = set()
    assert images.stored is not None
    for rows in (images.pixels, *images.stored.scales):
        original = rows.read
        rows.read = lambda positions, original=original: (  # type: ignore[method-assign]
            read.update(positions.tolist()),
            original(positions),
        )[1]
    fitted(detector(), images, range(16, 22), tmp_path)
    assert read == set(range(22))


@pytest.mark.parametrize(
    ("score", "constants"), [("scales", ("scale_log_mean", "scale_log_std")), (None, ("head.part_weights",))]
)
def test_the_constants_of_a_score_come_from_enough_held_out_images(
    score, constants, images: ImageFeatures, tmp_path: Path
) -> None:
    """Fewer leave them as they are, and one line says so."""
    for selection, weighed in ((range(16, 24), True), (range(16, 22), False), (range(0), False)):
        model = detector(score)
        said: list[str] = []
        before = {name: model.get_buffer(name).clone() for name in constants}
        fitted(model, images, selection, tmp_path, say=said.append)
        assert all(bool((model.get_buffer(name) != before[name]).all()) == weighed for name in constants)
        told = [line for line in said if line.startswith("score: ")]
        there = f"there are {len(selection)} of {len(selection) // 2}"
        assert (len(told), there in "".join(told)) == ((0, False) if weighed else (1, True))
