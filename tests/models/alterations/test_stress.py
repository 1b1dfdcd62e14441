"""The alterations of `evaluate --stress`: each does what its name says, and the same again for the same generator."""

import numpy as np
import pytest
from scipy import ndimage

from models.alterations.stress import SIZES, STRESS, Alteration, altered, rotated, shifted


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((48, 64, 3)), (2, 2, 0))
    return np.clip(noise * 150 + 128, 0, 255).astype(np.uint8)


def of(image, kind, amount, seed=0):
    return altered(image, Alteration(kind, amount), np.random.default_rng(seed))


@pytest.mark.parametrize("alteration", STRESS, ids=lambda one: one.name)
def test_an_altered_image_is_an_image_and_follows_its_generator(image, alteration):
    before = image.copy()
    first, again = (altered(image, alteration, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8 and first.flags.c_contiguous
    assert (first == again).all() and (first != image).any() and (image == before).all()


@pytest.mark.parametrize("kind", SIZES)
def test_a_larger_size_of_a_kind_changes_an_image_more(image, kind):
    sizes = [size for size in SIZES[kind] if size > 0]
    changes = [np.abs(of(image, kind, size).astype(int) - image).mean() for size in sizes]
    assert changes == sorted(changes) and changes[0] > 0


def test_light_is_what_the_name_says(image):
    assert of(image, "gain", -20).mean() == pytest.approx(0.8 * image.mean(), abs=0.5)
    assert (of(image, "offset", 20) == np.minimum(image.astype(int) + 20, 255)).all()
    grey = np.full((48, 64, 3), 100, np.uint8)
    found = of(grey, "gradient", 40)
    assert (found.min(), found.max()) == (60, 140)
    turned = [of(grey, "gradient", 40, seed)[..., 0] for seed in range(20)]
    sides = {(bool(image[0, 0] > image[-1, -1]), bool(image[0, -1] > image[-1, 0])) for image in turned}
    assert len(sides) == 4  # of 20 images some are bright on each side
    small, large = (of(grey, "gradient", size, seed=5).astype(int) - 100 for size in (20, 40))
    assert np.abs(2 * small - large).max() <= 2  # the same direction at every size


def test_a_shift_moves_whole_pixels_and_mirrors_what_comes_in(image):
    found = shifted(image, 3, angle=0.0)
    assert (found[:, 3:] == image[:, :-3]).all() and (found[:, :3] == image[:, 3:0:-1]).all()
    found = shifted(image, 5, angle=-np.pi / 2)
    assert (found[:-5] == image[5:]).all()
    assert (shifted(image, 0.2, angle=1.0) != image).any()  # at least one pixel


def test_a_rotation_goes_about_the_middle_both_ways(image):
    there = rotated(image, 5)
    back = rotated(there, -5)
    inside = slice(12, 36), slice(16, 48)
    assert np.abs(back[inside].astype(int) - image[inside]).mean() < 2 < np.abs(there.astype(int) - image)[inside].mean()
    turns = {tuple(of(image, "rotation", 5, seed)[0, 0]) for seed in range(8)}
    assert len(turns) == 2
