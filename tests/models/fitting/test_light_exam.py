"""The criterion under light: alarms of good images in other light lower it, and asking for it changes no weight."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_config

from models import registry
from models.alterations.picture import cut, padded
from models.detector import FitRun
from models.features.store import ImageFeatures
from models.fitting.fit import fit
from models.fitting.light_exam import LitScores, under_gradients
from models.fitting.selection import ExamScores, standard_error
from models.maps.content_box import Box

GOOD = np.array([1.0, 2.0, 3.0, 4.0])
DEFECTS = {"spot": GOOD + 3.5, "scar": GOOD + 9}


def test_good_images_that_alarm_in_other_light_lower_the_criterion() -> None:
    plain = ExamScores(GOOD, DEFECTS).criterion()
    calm, alarming = LitScores(GOOD, DEFECTS, lit=GOOD), LitScores(GOOD, DEFECTS, lit=GOOD + 6)
    assert calm.criterion() == plain
    assert alarming.criterion().value < plain.value
    assert alarming.criterion().families["scar"] < plain.families["scar"] == 1
    # Of 8 good images against 4 defects: those as they are as before, those in other light by their own scores.
    assert alarming.criterion().families["scar"] == (1 + 15.5 / 16) / 2


def test_the_difference_of_two_is_paired_by_group() -> None:
    calm, alarming = LitScores(GOOD, DEFECTS, lit=GOOD), LitScores(GOOD, DEFECTS, lit=GOOD + 6)
    assert standard_error(calm, calm, list("abcd")) == 0
    assert 0 < standard_error(calm, alarming, list("abcd")) < np.inf
    drawn = np.array([0, 0, 3, 3])
    twice = LitScores(GOOD[drawn], {name: scores[drawn] for name, scores in DEFECTS.items()}, alarming.lit[drawn])
    assert alarming.criterion(drawn) == twice.criterion()


def test_a_gradient_has_its_full_strength_and_follows_seed_and_position() -> None:
    grey = np.full((3, 16, 24, 3), 100, np.uint8)
    found = under_gradients(grey, [4, 5, 4], 0.3, seed=0)
    assert (found.min(axis=(1, 2, 3)) == 70).all() and (found.max(axis=(1, 2, 3)) == 130).all()
    assert (found[0] == found[2]).all() and (found[0] != found[1]).any()
    assert (under_gradients(grey, [4, 5, 4], 0.3, seed=1) != found).any()


@pytest.mark.parametrize("kept", [False, True])
def test_it_is_taken_at_the_kept_epoch_and_changes_no_weight(kept: bool, tmp_path: Path) -> None:
    said: dict[float, list[str]] = {}
    models = {}
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(60, 180, (12, 64, 96, 3), generator=generator).to(torch.uint8)
    for strength in (0.0, 0.4):
        folder = tmp_path / f"{strength}"
        folder.mkdir()
        model = registry.build(tiny_config())
        run, said[strength] = FitRun(model.Training(epochs=2, epoch_steps=0, batch_size=4)), []
        with ImageFeatures(model, folder, "good") as images:
            images.append(pixels)
            sets = torch.arange(8), torch.arange(8, 12)
            found = fit(
                *(model, images, *sets, list("abcd"), run, 2, folder),
                say=said[strength].append,
                identity="x" if kept else None,
                criterion_light=strength,
            )
        models[strength] = model.state_dict()
        assert (found.under_light is not None) == bool(strength)
        assert bool(list(folder.glob("gradients*"))) == (kept and bool(strength))
        if found.under_light is not None:
            assert set(found.under_light.families) == set(found.chosen.families)
            assert said[strength][-1].startswith(f"under light: criterion {found.under_light.value:.3f}")
    assert all(torch.equal(value, models[0.4][name]) for name, value in models[0.0].items())
    assert [line for line in said[0.4] if not line.startswith("under light")] == said[0.0]


def test_of_a_padded_image_the_gradient_goes_over_the_picture() -> None:
    grey, box = np.full((8, 64, 64, 3), 100, np.uint8), Box(0, 24, 64, 40)
    for one in under_gradients(grey, list(range(8)), 0.4, seed=0, boxes=[box] * 8):
        picture = cut(one, box)
        assert (picture.min(), picture.max()) == (60, 140) and (one == padded(picture, box, (64, 64))).all()
