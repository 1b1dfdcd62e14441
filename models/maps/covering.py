"""Turns scores of patches into scores of the pixels, or cells of pixels, that they cover.

Source: Yi and Yoon 2020, Patch SVDD, section 3.4, arXiv:2006.16067; tests/golden/README.md section 6.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def distribute(scores: Tensor, patch: int, stride: int, height: int, width: int) -> Tensor:
    """The average, at every place, over the patches that cover it.

    Patch (i, j) starts at place (stride * i, stride * j) and covers patch x patch places. The unit is the pixel, or a cell of
    n x n pixels if n divides patch and stride: all pixels of such a cell lie in the same patches, so the map of cells loses
    nothing.

    Args:
        scores: (B, h, w), float32; (h - 1) * stride + patch <= height, and likewise for the width.
    Returns:
        (B, height, width), float32; 0 where no patch covers the place. The original adds in float32 and divides in float64.

    >>> distribute(torch.tensor([[[1.0, 3.0]]]), patch=2, stride=1, height=2, width=4)
    tensor([[[1., 2., 3., 0.],
             [1., 2., 3., 0.]]])
    """
    window = scores.new_ones(1, 1, patch, patch)
    total = F.conv_transpose2d(scores[:, None], window, stride=stride)  # (B, 1, covered height, covered width)
    counts = F.conv_transpose2d(torch.ones_like(scores[:1, None]), window, stride=stride)
    average = torch.where(counts > 0, total / counts.clamp(min=1), 0)[:, 0]  # (B, covered height, covered width)
    return F.pad(average, (0, width - average.shape[2], 0, height - average.shape[1]))
