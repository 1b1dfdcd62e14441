"""Maps of cells, one per level, and the way from one grid to another."""

import torch.nn.functional as F
from torch import Tensor

Maps = list[Tensor]
"""One tensor per level (or scale, or tap), (B, C_l, h_l, w_l) unless stated otherwise."""


def resized(cells: Tensor, size: tuple[int, ...]) -> Tensor:
    """A map of one value per cell, brought to another grid, bilinear between the centres of cells.

    Args:
        cells: (B, h, w), floating point.
        size: rows and columns, (H, W).
    Returns:
        (B, H, W); the input itself if it has that size.

    >>> import torch
    >>> resized(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    tensor([[[0., 1., 3., 4.]]])
    """
    if tuple(cells.shape[1:]) == tuple(size):
        return cells
    return F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)
