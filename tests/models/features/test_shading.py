"""Light that rises evenly over a picture is taken out of it, and nothing else is."""

import numpy as np
import pytest
import torch

from models.alterations.light import LightField, lit, ramp
from models.features.shading import MOST, ShadingCorrection

SIZE = (48, 72)


def surface(seed=0):
    """(H, W, 3) uint8, about as bright everywhere, and coloured."""
    rng = np.random.default_rng(seed)
    grey = 110 + 12 * rng.standard_normal((*SIZE, 1))
    return np.clip(grey * (1.0, 0.9, 0.8), 0, 255).astype(np.uint8)


def corrected(image, pixels=None):
    return ShadingCorrection(pixels, SIZE)(torch.from_numpy(image)[None])[0].numpy()


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.5])
def test_a_gradient_of_light_leaves_the_image_of_even_light(angle):
    image = surface()
    other = lit(image, LightField(gradient=0.4, angle=angle))
    even, back = (corrected(x).astype(int) for x in (image, other))
    assert np.abs(other.astype(int) - image).mean() > 10
    assert np.abs(even - back).mean() < 0.7 and np.abs(even - image).mean() < 1


def test_brightness_and_hue_stay():
    image = lit(surface(), LightField(gain=0.2, gradient=0.3, angle=2.0))
    even = corrected(image)
    assert even.mean() == pytest.approx(image.mean(), rel=0.02)
    assert even.mean((0, 1)) / even.mean() == pytest.approx(image.mean((0, 1)) / image.mean(), rel=0.01)


def test_a_defect_stays():
    image = surface()
    image[10:18, 20:28] //= 2
    lowered = corrected(image)[10:18, 20:28].mean() / corrected(surface())[10:18, 20:28].mean()
    assert lowered == pytest.approx(0.5, abs=0.03)


def test_an_image_has_the_same_bits_in_every_batch():
    images = torch.from_numpy(np.stack([lit(surface(i), LightField(gradient=0.1 * i)) for i in range(5)]))
    correct = ShadingCorrection(None, SIZE)
    assert torch.equal(correct(images), torch.cat([correct(images[i : i + 1]) for i in range(5)]))


def test_what_is_not_counted_changes_nothing_that_is():
    pixels = torch.zeros(SIZE, dtype=torch.bool)
    pixels[5:40, 30:] = True
    image = lit(surface(), LightField(gradient=0.4, angle=1.0))
    noisy = np.where(pixels[..., None].numpy(), image, np.random.default_rng(1).integers(0, 256, image.shape, np.uint8))
    first, second = corrected(image, pixels), corrected(noisy, pixels)
    assert (first[pixels] == second[pixels]).all() and (corrected(image) != corrected(noisy))[pixels].any()
    even = first[pixels].astype(float).mean(1)
    slopes = [np.corrcoef(even, ramp(SIZE, angle)[pixels])[0, 1] for angle in (0, np.pi / 2)]
    assert np.abs(slopes).max() < 0.02


def test_strange_images_give_numbers():
    half = np.zeros((*SIZE, 3), np.uint8)
    half[:, 60:] = 40
    assert (corrected(np.zeros((*SIZE, 3), np.uint8)) == 0).all()
    assert corrected(half).max() <= 40 * MOST
    assert (corrected(np.full((*SIZE, 3), 200, np.uint8)) == 200).all()
    row = torch.zeros(SIZE, dtype=torch.bool)
    row[7] = True
    image = lit(surface(), LightField(gradient=0.4))
    assert np.abs(corrected(image, row)[7].astype(int) - surface()[7]).mean() < 10  # across the row; down it nothing is known


def test_the_plane_is_that_of_least_squares():
    pixels = torch.from_numpy(np.random.default_rng(3).random(SIZE) < 0.3)
    image = np.repeat(np.random.default_rng(4).integers(60, 180, (*SIZE, 1), np.uint8), 3, axis=2)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    terms = np.stack([np.ones(SIZE), rows, columns], -1)
    grey = image[..., 0].astype(float)
    weights = np.linalg.lstsq(terms[pixels.numpy()], grey[pixels.numpy()], rcond=None)[0]
    expected = np.clip(grey * grey[pixels.numpy()].mean() / (terms @ weights), 0, 255)
    assert np.abs(corrected(image, pixels)[..., 0] - expected).max() <= 0.51
