"""Rotated tensors are Pillow's rotated images, for any angle and any shape of canvas."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.backbones.rotation import rotate, rotation_index


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (48, 80), (41, 23)])
def test_pixels_are_pillows(size):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (2, *size, 3), generator=generator, dtype=torch.uint8)
    for degrees in np.arange(-90, 450, 11.25):
        turned = rotate(images.permute(0, 3, 1, 2), rotation_index(*size, degrees), torch.zeros(3, dtype=torch.uint8))
        for image, other in zip(images, turned, strict=True):
            expected = np.asarray(Image.fromarray(image.numpy()).rotate(degrees, Image.Resampling.NEAREST))
            assert np.array_equal(other.permute(1, 2, 0), expected), degrees  # (H, W, 3)


def test_quarter_turns_of_a_square_are_exact():
    images = torch.rand(2, 3, 12, 12)
    for quarters in range(4):
        turned = rotate(images, rotation_index(12, 12, 90 * quarters), torch.zeros(3))
        assert torch.equal(turned, torch.rot90(images, quarters, (2, 3)))


def test_corners_are_filled():
    fill = torch.tensor([-1.0, -2.0, -3.0])
    turned = rotate(torch.ones(1, 3, 16, 16), rotation_index(16, 16, 45), fill)
    assert torch.equal(turned[0, :, 0, 0], fill)
    assert torch.equal(turned[0, :, 8, 8], torch.ones(3))
