"""Where pairs lie, and what is cut there. The original's sequence of them is in test_patchsvdd_golden.py."""

import numpy as np
import pytest
import torch

from models.patches.pairs import SIDES, cut, distorted, jittered, neighbours

SIZES = [(64, 64, 64), (64, 96, 64), (64, 96, 32), (300, 200, 32)]


@pytest.mark.parametrize(("height", "width", "patch"), SIZES)
@pytest.mark.parametrize("draw", [neighbours, jittered])
def test_both_patches_lie_in_the_image(height, width, patch, draw):
    random = np.random.RandomState(0)
    for _ in range(300):
        for row, column in draw(random, height, width, patch)[:2]:
            assert 0 <= row <= height - patch and 0 <= column <= width - patch


def test_sides_and_distances_where_the_border_is_far():
    random = np.random.RandomState(0)
    seen = set()
    for _ in range(300):
        pair = neighbours(random, 100_000, 100_000, 64)
        steps = np.subtract(pair.second, pair.first)
        assert tuple(np.sign(steps)) == SIDES[pair.side]
        assert all(48 <= abs(step) < 64 for step in steps if step)
        seen.add(pair.side)
        close = jittered(random, 100_000, 100_000, 64)
        assert 0 < np.abs(np.subtract(close.second, close.first)).max() <= 2
    assert seen == set(range(8))


def test_patches_are_cut_where_the_pairs_say():
    images = torch.arange(2 * 3 * 70 * 80).reshape(2, 3, 70, 80)
    pairs = [neighbours(np.random.RandomState(i), 70, 80, 32) for i in range(2)]
    patches = cut(images, pairs, 32)
    assert patches.shape == (2, 2, 3, 32, 32)
    for image, pair, both in zip(images, pairs, patches, strict=True):
        for (row, column), patch in zip(pair[:2], both, strict=True):
            assert torch.equal(patch, image[:, row : row + 32, column : column + 32])


def test_distortion_is_a_shift_per_colour_and_noise():
    patches = distorted(torch.zeros(50, 2, 3, 32, 32), 0.02, torch.Generator().manual_seed(0))
    shift = patches.mean(dim=(3, 4))  # (50, 2, 3)
    assert shift.std() == pytest.approx(0.02, rel=0.15)
    assert (patches - shift[..., None, None]).std() == pytest.approx(0.02, rel=0.02)
    same = torch.rand(4, 2, 3, 32, 32)
    assert torch.equal(distorted(same, 0.0, torch.Generator()), same)
