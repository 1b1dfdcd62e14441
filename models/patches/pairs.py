"""Pairs of patches that Patch SVDD's encoder learns from: where they lie, cutting them out, colour and pixel noise.

Places are (row, column) of a patch's first pixel. They are drawn from numpy's legacy generator in the original's order,
so that a seed gives the original's pairs. A second patch that would leave the image is moved into it, as in the original:
a jittered pair can then be the same patch twice, and a neighbour can lie nearer than its class says, or on no side at all.

Source: Yi and Yoon 2020, Patch SVDD, sections 3.1 and 3.2, arXiv:2006.16067; tests/golden/README.md section 6.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Place = tuple[int, int]
# The class is the index. It says on which side of the first patch the second one lies, (rows down, columns right).
SIDES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Pair(NamedTuple):
    """Two places, and for neighbours the class of their position."""

    first: Place
    second: Place
    side: int = 0


def neighbours(random: np.random.RandomState, height: int, width: int, patch: int) -> Pair:
    """Two patches side by side at an offset of 3/4 to 1 patch in the direction of a side, in pixels.

    >>> neighbours(np.random.RandomState(7), height=256, width=256, patch=64)
    Pair(first=(175, 25), second=(192, 25), side=6)
    """
    first = _place(random, height, width, patch)
    side = int(random.randint(len(SIDES)))
    further = random.randint(patch // 4, size=2)
    down, right = (step * (3 * patch // 4 + int(more)) for step, more in zip(SIDES[side], further, strict=True))
    return Pair(first, _inside((first[0] + down, first[1] + right), height, width, patch), side)


def jittered(random: np.random.RandomState, height: int, width: int, patch: int, reach_sizes: float = 1 / 32) -> Pair:
    """Two patches at an offset of at most patch * reach_sizes pixels along either axis, not both 0 (original: 1/32).

    >>> jittered(np.random.RandomState(7), height=256, width=256, patch=64)
    Pair(first=(175, 25), second=(176, 26), side=0)
    """
    first = _place(random, height, width, patch)
    reach = int(patch * reach_sizes)
    down = right = 0
    while down == 0 and right == 0:
        down, right = random.randint(-reach, reach + 1), random.randint(-reach, reach + 1)
    return Pair(first, _inside((first[0] + int(down), first[1] + int(right)), height, width, patch))


def _place(random: np.random.RandomState, height: int, width: int, patch: int) -> Place:
    row = int(random.randint(0, height - patch + 1))
    return row, int(random.randint(0, width - patch + 1))


def _inside(place: Place, height: int, width: int, patch: int) -> Place:
    return min(max(place[0], 0), height - patch), min(max(place[1], 0), width - patch)


def cut(images: Tensor, pairs: list[Pair], patch: int) -> Tensor:
    """Cut one pair of patches out of every image.

    Args:
        images: (B, C, H, W).
        pairs: B of them.
    Returns:
        (B, 2, C, patch, patch).

    >>> cut(torch.zeros(1, 3, 64, 64), [Pair((0, 0), (16, 32))], patch=32).shape
    torch.Size([1, 2, 3, 32, 32])
    """
    places = [(pair.first, pair.second) for pair in pairs]
    return torch.stack(
        [
            torch.stack([image[:, row : row + patch, column : column + patch] for row, column in both])
            for image, both in zip(images, places, strict=True)
        ]
    )


def distorted(patches: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add a colour shift per patch and noise per value, both normal with standard deviation sigma, so that colour fringes
    do not give the side away: (..., 3, H, W), values scaled to a range of 1.

    >>> distorted(torch.zeros(2, 3, 32, 32), sigma=0.02, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 32, 32])
    """
    shift = torch.randn((*patches.shape[:-2], 1, 1), generator=generator)
    noise = torch.randn(patches.shape, generator=generator)
    return patches + sigma * (shift + noise).to(patches.device)
