import numpy as np
import pytest
import torch

from models.backbones.preprocess import Normalise, pyramid

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def test_normalise():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8))
    expected = (images.numpy() / 255 - np.array(MEAN)) / np.array(STD)
    actual = Normalise(MEAN, STD)(images)
    assert actual.shape == (2, 3, 5, 7) and actual.dtype == torch.float32
    assert actual.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(actual.permute(0, 2, 3, 1), expected, atol=1e-6)


@pytest.mark.parametrize("images", [torch.zeros(1, 4, 4, 3), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_other_inputs_are_refused(images):
    with pytest.raises(ValueError, match="images must be uint8"):
        Normalise(MEAN, STD)(images)


@pytest.mark.parametrize("size", [(8, 12), (8, 10), (7, 9)])
def test_pyramid_sizes_and_means(size):
    images = torch.rand(2, 3, *size)
    levels = pyramid(images, 3)
    rows, columns = size
    assert [tuple(x.shape[2:]) for x in levels] == [size, (-(-rows // 2), -(-columns // 2)), (2, -(-columns // 4))]
    if size == (8, 12):
        blocks = images.view(2, 3, 2, 4, 3, 4).mean((3, 5))
        torch.testing.assert_close(levels[2], blocks)


def test_nearest_takes_every_second_pixel():
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(pyramid(images, 3, "nearest")[2], images[:, :, ::4, ::4])
