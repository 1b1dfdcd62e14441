"""Which patches of an image count where its model has a region of interest, and what they say of the places they cover."""

import torch
from torch import Tensor

from models.maps.covering import distribute
from models.patches.encoder import LARGE, LARGE_STRIDE
from models.roi.cells import Cells, pooled


def padded_side(size: int) -> int:
    """The least size, at least this one, that large patches cover without a remainder, pixels.

    >>> padded_side(50), padded_side(64), padded_side(65)
    (64, 64, 80)
    """
    return max(LARGE, -(-size // LARGE_STRIDE) * LARGE_STRIDE)


def repeated(pixels: Tensor) -> Tensor:
    """(H, W) with the last row and column repeated up to `padded_side`, as images are.

    >>> repeated(torch.ones(50, 70)).shape
    torch.Size([64, 80])
    """
    rows, columns = (torch.arange(padded_side(size)).clamp(max=size - 1) for size in pixels.shape)
    return pixels[rows][:, columns]


def patches_of(pixels: Tensor | None, height: int, width: int, patch: int, stride: int) -> Cells:
    """The patches of an image of this size, those with a pixel inside counted.

    pixels: of `repeated`, bool; None: all are inside.

    >>> patches_of(None, height=96, width=64, patch=64, stride=16).grid
    (3, 1)
    """
    grid = (padded_side(height) - patch) // stride + 1, (padded_side(width) - patch) // stride + 1
    return Cells(pooled(pixels, patch, stride), grid)


def spread_over(patches: Cells, distances: Tensor, patch: int, stride: int, size: tuple[int, int]) -> Tensor:
    """The mean distance of the patches that cover each place and count, (B, *size); 0 where there is none.

    Args:
        distances: (B, h, w), of all patches.
        patch, stride: in places, as `distribute` takes them.

    >>> patches = Cells(torch.tensor([[True, False]]), (1, 2))
    >>> spread_over(patches, torch.tensor([[[1.0, 3.0]]]), patch=2, stride=1, size=(2, 4))
    tensor([[[1., 1., 0., 0.],
             [1., 1., 0., 0.]]])
    """
    spread = distribute(patches.zeroed(distances), patch, stride, *size)
    if patches.mask is None:
        return spread
    share = distribute(patches.mask[None].to(distances.dtype), patch, stride, *size)
    return torch.where(share > 0, spread / share.clamp(min=1 / patch**2), 0)
