"""The fixed two-dimensional position code that CFLOW gives its decoders as their condition."""

import math

import torch
from torch import Tensor

PERIOD_RANGE = 1e4  # periods run from 2 pi cells to nearly this many times that; Vaswani et al. 2017, arXiv:1706.03762


def position_code(channels: int, height: int, width: int) -> Tensor:
    """Sines and cosines of a cell's column and row.

    An axis has K = channels / 2 channels. Channels 2j and 2j + 1 are the sine and the cosine of
    index * 10000^(-2j / K), where the index counts cells from 0.

    Args:
        channels: divisible by 4.
        height, width: cells.
    Returns:
        (channels, height, width), float32, within [-1, 1]; the first half encodes the column, the second half the row.
    Source: Gudovskiy et al. 2022, CFLOW-AD, arXiv:2107.12571; exact semantics in tests/golden/README.md section 3.

    >>> position_code(channels=4, height=1, width=3)[:, 0].round(decimals=2)
    tensor([[ 0.0000,  0.8400,  0.9100],
            [ 1.0000,  0.5400, -0.4200],
            [ 0.0000,  0.0000,  0.0000],
            [ 1.0000,  1.0000,  1.0000]])
    """
    if channels < 4 or channels % 4:
        raise ValueError(f"position channels must be a positive multiple of 4; got {channels}. Round it up.")
    axis_channels = channels // 2
    exponents = torch.arange(0, axis_channels, 2, dtype=torch.float64) / axis_channels  # (K / 2,)
    frequencies = torch.exp(-math.log(PERIOD_RANGE) * exponents)

    def of_axis(cells: int) -> Tensor:
        angles = torch.outer(torch.arange(cells, dtype=torch.float64), frequencies)  # (cells, K / 2)
        return torch.stack([angles.sin(), angles.cos()], 2).flatten(1).T  # (K, cells)

    columns = of_axis(width)[:, None, :].expand(-1, height, -1)  # (K, height, width)
    rows = of_axis(height)[:, :, None].expand(-1, -1, width)  # (K, height, width)
    return torch.cat([columns, rows]).float()
