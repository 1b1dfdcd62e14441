"""The 32 numbers that are kept of an image, to find its nearest good images and to see the features drift."""

import torch.nn.functional as F
from torch import Tensor

from models.precision import LARGEST_FP16

EMBEDDING_SIZE = 32


def embedding(maps: Tensor) -> Tensor:
    """Mean over the cells of the first 32 components of the finest whitened map.

    Whitened components are ordered by variance, so these are the 32 main directions of the good images' features. Zeros
    fill up a narrower map. Values beyond float16 are cut off at its largest, 65,504: an image that far from the good ones
    is to be seen by its score, and an infinite number would spoil every mean that it enters.

    Args:
        maps: whitened features of scale 0, (B, k, H, W), float32.
    Returns:
        (B, 32), float16. For good images they are about normal, with the standard deviation 1 / sqrt(independent cells).

    >>> import torch
    >>> embedding(torch.ones(2, 3, 8, 8))[0, :4]
    tensor([1., 1., 1., 0.], dtype=torch.float16)
    """
    pooled = maps[:, :EMBEDDING_SIZE].mean(dim=(2, 3))  # (B, min(k, 32))
    return F.pad(pooled.clamp(-LARGEST_FP16, LARGEST_FP16), (0, EMBEDDING_SIZE - pooled.shape[1])).half()
