"""Copies in other light: every detector is fitted to them as to any image, and without them nothing changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import BRIEF_MEMBERS
from torch import Tensor

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.features.store import ImageFeatures
from models.fitting.fit import fit
from models.fitting.light import Light, in_other_light, with_copies
from models.maps.content_box import Box

SMALL: dict[str, dict[str, Any]] = {
    "csflow": {"whiten_dims": 4, "hidden": 4, "kernels": [1], "scales": 2},
    "fastflow": {"whiten_dims": 4, "steps": 1},
    "cflow": {"whiten_dims": 4, "steps": 1},
    "differnet": {"whiten_dims": 4, "hidden": 4, "blocks": 1, "transforms": 1, "scales": 1},
    "padim": {"dims": 4},
    "patchcore": {"bank_size": 8},
    "patchsvdd": {"bank_size": 8},
    "ensemble": BRIEF_MEMBERS,
}
COUNT, FITTED = 9, 4


def build(name: str) -> Detector:
    network = BackboneConfig(name="test_resnet", weights="none")
    config = ArtifactConfig(
        name="tiny",
        detector=name,
        backbone=network,
        input=InputConfig(height=64, width=64),
        hyperparameters=SMALL[name],
    )
    return registry.build(config)


def brief(detector: Detector, seed: int = 0) -> FitRun:
    wanted = {"epochs": 1, "epoch_steps": 0, "batch_size": 4, "pairs_per_image": 1}
    return FitRun(detector.Training(**{k: v for k, v in wanted.items() if k in detector.Training.model_fields}), seed)


def stored(detector: Detector, folder: Path) -> ImageFeatures:
    pixels = torch.randint(40, 200, (COUNT, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageFeatures(detector, folder, "good")
    images.append(pixels)
    return images


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_every_detector_is_in_the_list():
    assert set(SMALL) == set(registry.names())


@pytest.mark.parametrize("name", SMALL)
def test_every_detector_is_fitted_to_the_copies_too_and_without_them_to_the_same_bits(name: str, tmp_path: Path) -> None:
    alone, plain, with_light = (build(name) for _ in range(3))
    positions = torch.arange(FITTED)
    with stored(plain, tmp_path) as images:
        run = brief(plain)
        alone.fit(images, positions, run)
        fit(plain, images, positions, positions[:0], [], run, 2, tmp_path)
        assert same(alone.state_dict(), plain.state_dict())
        assert not list(tmp_path.glob("lit*"))
        with with_copies(with_light, images, positions, Light(0.4), run, tmp_path) as learned:
            assert learned.of(positions).tolist() == [*range(FITTED), *range(COUNT, COUNT + FITTED)]
            fit(with_light, images, positions, positions[:0], [], run, 2, tmp_path, learned=learned)
        assert not list(tmp_path.glob("lit*"))
        assert not same(with_light.state_dict(), plain.state_dict())
        with_light.freeze()
        assert torch.isfinite(with_light.score(images.pixels.read(torch.arange(COUNT))).score).all()


@pytest.mark.parametrize("name", ["csflow", "padim"])  # stored features, and features made at every read
def test_a_copy_has_the_features_of_its_pixels_whatever_is_read_with_it(name: str, tmp_path: Path) -> None:
    detector = build(name)
    chosen = torch.tensor([1, 4, 7])
    with (
        stored(detector, tmp_path) as images,
        with_copies(detector, images, chosen, Light(0.4, copies=2), brief(detector), tmp_path) as learned,
    ):
        positions = torch.tensor([7 + 2 * COUNT, 4, 4 + COUNT, 8, 1 + COUNT])
        found = learned.features.read(positions)
        for at, (position, number) in enumerate([(7, 1), (4, None), (4, 0), (8, None), (1, 0)]):
            pixels = images.pixels.read(torch.tensor([position]))
            if number is not None:
                pixels = torch.from_numpy(in_other_light(pixels.numpy(), [position], number, 0.4, seed=0))
            for level, expected in zip(found, detector.extract(pixels), strict=True):
                torch.testing.assert_close(level[at : at + 1], expected, rtol=2e-3, atol=1e-3)
        only = learned.features.read(torch.tensor([1 + COUNT]))
        assert all(torch.equal(a[-1:], b) for a, b in zip(found, only, strict=True))


def test_light_follows_seed_position_and_copy() -> None:
    pixels = torch.full((1, 16, 16, 3), 100, dtype=torch.uint8).numpy()
    found = [
        in_other_light(pixels, [at], number, 0.4, seed) for at, number, seed in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert all((a != b).any() for i, a in enumerate(found) for b in found[:i])
    assert (in_other_light(pixels, [0], 0, 0.4, 0) == found[0]).all()
    assert (in_other_light(pixels, [0], 0, 0.0, 0) == pixels).all()


def test_kept_copies_are_made_once(tmp_path: Path) -> None:
    detector, phases = build("csflow"), []
    reads = []
    with stored(detector, tmp_path) as images:
        for identity in ("a", "a", "b"):
            told = []
            with with_copies(
                detector, images, torch.arange(4), Light(0.2), brief(detector), tmp_path, phases.append, told.append, identity
            ) as learned:
                reads.append(learned.features.read(torch.arange(COUNT, COUNT + 4)))
            assert bool(told) == (identity == "b")  # files of something else are named, and made again
    assert phases == ["light", "light"]
    assert all(torch.equal(a, b) for a, b in zip(reads[0], reads[1], strict=True))


def test_an_image_that_has_no_copy_cannot_be_read_as_one(tmp_path: Path) -> None:
    detector = build("patchsvdd")
    with (
        stored(detector, tmp_path) as images,
        with_copies(detector, images, torch.arange(4), Light(0.2), brief(detector), tmp_path) as learned,
        pytest.raises(AssertionError, match="without a copy"),
    ):
        learned.features.read(torch.tensor([COUNT + 4]))


def test_of_a_padded_image_light_rises_over_the_picture() -> None:
    pixels, box = torch.full((4, 64, 64, 3), 100, dtype=torch.uint8).numpy(), Box(0, 24, 64, 40)
    found = in_other_light(pixels, [0, 1, 2, 3], 0, 0.4, seed=0, boxes=[box] * 4)
    alone = in_other_light(pixels[:, 24:40], [0, 1, 2, 3], 0, 0.4, seed=0)
    assert (found[:, 24:40] == alone).all() and (found[:, :24] == alone[:, :1]).all() and (found[:, 40:] == alone[:, -1:]).all()
