"""Maps of cells, a level each, and how a map gets to another grid."""

import torch.nn.functional as F
from torch import Tensor

Maps = list[Tensor]
"""One tensor a level (or scale, or tap), (B, C_l, h_l, w_l) unless said otherwise."""


def resized(cells: Tensor, size: tuple[int, ...]) -> Tensor:
    """A map of one value a cell on another grid, bilinear between the centres of cells.

    Args:
        cells: (B, h, w), floating point.
        size: rows and columns, (H, W).
    Returns:
        (B, H, W); the input itself where it has that size.

    >>> import torch
    >>> resized(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    tensor([[[0., 1., 3., 4.]]])
    """
    if tuple(cells.shape[1:]) == tuple(size):
        return cells
    return F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)
