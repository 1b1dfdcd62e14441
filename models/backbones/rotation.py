"""Rotation of image tensors about the centre; the size stays, and every pixel equals that of Pillow's nearest rotation."""

import math

import torch
from torch import Tensor

FRACTION_BITS = 16  # Pillow walks through the source in fixed-point steps of 2^-16 pixel


def rotation_index(height: int, width: int, degrees: float) -> Tensor:
    """The pixel of the image that each pixel of the rotated image shows.

    Args:
        degrees: counter-clockwise.
    Returns:
        (height * width,) int64, row-major positions in the image; height * width where there is nothing to show.

    >>> rotation_index(2, 2, degrees=90)  # counter-clockwise
    tensor([1, 3, 0, 2])
    """
    angle = -math.radians(degrees % 360)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    centre_x, centre_y = width / 2, height / 2
    start_x = centre_x - cos * centre_x - sin * centre_y + (cos + sin) / 2
    start_y = centre_y + sin * centre_x - cos * centre_y + (cos - sin) / 2
    columns, rows = torch.arange(width), torch.arange(height)[:, None]
    x = (_fixed(start_x) + _fixed(cos) * columns + _fixed(sin) * rows) >> FRACTION_BITS  # (height, width)
    y = (_fixed(start_y) + _fixed(-sin) * columns + _fixed(cos) * rows) >> FRACTION_BITS  # (height, width)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.where(inside, y * width + x, height * width).flatten()  # (height * width,)


def _fixed(value: float) -> int:
    return math.floor(value * 2**FRACTION_BITS + 0.5)


def rotate(images: Tensor, index: Tensor, fill: Tensor) -> Tensor:
    """The images rotated by one rotation_index of their size.

    Args:
        images: (B, C, H, W).
        fill: (C,), the value of corners that the image does not reach.
    Returns:
        (B, C, H, W), in channels_last memory.

    >>> images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> rotate(images, rotation_index(2, 2, degrees=90), fill=torch.zeros(1))
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    batch, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(batch, height * width, channels)  # (B, H * W, C)
    padded = torch.cat([pixels, fill.expand(batch, 1, channels)], 1)  # (B, H * W + 1, C)
    turned = padded.index_select(1, index)  # (B, H * W, C)
    return turned.view(batch, height, width, channels).permute(0, 3, 1, 2)  # (B, C, H, W)
