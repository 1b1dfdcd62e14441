"""Patches that count: what lies outside says nothing of any place."""

import torch

from models.maps.covering import distribute
from models.patches.counted import patches_of, repeated, spread_over


def test_only_patches_with_a_pixel_inside_are_averaged():
    pixels = torch.zeros(100, 120, dtype=torch.bool)
    pixels[:20, :30] = True
    patches = patches_of(repeated(pixels), 100, 120, patch=64, stride=16)
    assert patches.grid == (4, 5) and patches.mask.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    distances = torch.rand(2, 4, 5)
    found = spread_over(patches, distances, patch=4, stride=1, size=(7, 8))
    assert torch.allclose(found[:, 0, 0], distances[:, 0, 0]) and torch.allclose(
        found[:, 2, 3], distances[:, :2, :2].mean((1, 2))
    )
    assert not found[:, 5:].any() and not found[:, :, 5:].any()
    distances[:, 2:] = distances[:, :, 2:] = float("nan")
    assert torch.equal(spread_over(patches, distances, patch=4, stride=1, size=(7, 8)), found)


def test_without_a_region_the_mean_is_of_all_patches():
    distances = torch.rand(2, 4, 5)
    found = spread_over(patches_of(None, 100, 120, patch=64, stride=16), distances, patch=4, stride=1, size=(7, 8))
    assert torch.equal(found, distribute(distances, 4, 1, 7, 8))
