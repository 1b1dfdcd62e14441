"""Pixels to the normalised image pyramid that backbones read."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Downscale = Literal["area", "nearest"]


class Normalise(nn.Module):
    """(value / 255 - mean) / std per channel. mean, std: of the channels, scaled to [0, 1].

    >>> normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> normalise(torch.full((1, 4, 6, 3), 255, dtype=torch.uint8)).amax((2, 3)).round(decimals=3)
    tensor([[1., 1., 1.]])
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        # Both follow from the artifact's config, so a state dict need not hold them.
        self.register_buffer("gain", torch.tensor([1 / (255 * s) for s in std]), persistent=False)
        self.register_buffer("offset", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3), uint8, RGB, to (B, 3, H, W), float32, in channels_last memory."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images must be uint8 (B, H, W, 3); got {images.dtype} {tuple(images.shape)}. Decode and resize them first."
            )
        # One row of the image, so that the innermost loop is long.
        gain, offset = (x.repeat(images.shape[2], 1) for x in (self.gain, self.offset))  # (W, 3)
        return torch.addcmul(offset, images.float(), gain).permute(0, 3, 1, 2)  # (B, 3, H, W)


def pyramid_sizes(height: int, width: int, scales: int) -> tuple[tuple[int, int], ...]:
    """Height and width of every level of `pyramid`.

    >>> pyramid_sizes(64, 50, scales=3)
    ((64, 50), (32, 25), (16, 13))
    """
    return tuple((-(-height // 2**i), -(-width // 2**i)) for i in range(scales))


def pyramid(images: Tensor, scales: int, downscale: Downscale = "area") -> list[Tensor]:
    """The images at 1, 1/2, 1/4 ... of their size, odd sizes rounded up.

    Args:
        images: (B, 3, H, W), float32.
        downscale: area averages the pixels that a new pixel covers; nearest is what the original CS-Flow does.
    Returns:
        per scale (B, 3, ceil(H / 2^i), ceil(W / 2^i)).

    >>> [tuple(level.shape) for level in pyramid(torch.zeros(1, 3, 64, 50), scales=3)]
    [(1, 3, 64, 50), (1, 3, 32, 25), (1, 3, 16, 13)]
    """
    height, width = images.shape[-2:]
    levels = [images]
    for i, size in enumerate(pyramid_sizes(height, width, scales)[1:], start=1):
        if downscale == "nearest":
            levels.append(F.interpolate(images, size=size, mode="nearest"))
        elif height % 2**i == 0 and width % 2**i == 0:
            levels.append(F.avg_pool2d(levels[-1], 2))
        else:
            levels.append(F.interpolate(images, size=size, mode="area"))
    return levels
