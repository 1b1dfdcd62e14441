"""Patch embeddings: the maps of several taps on the finest one's cells, and a random choice of their channels.

Source: Defard et al. 2020, PaDiM, section III-A, arXiv:2011.08785; golden/NOTES.md section 5.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Maps = Sequence[Tensor]


def draw_channels(total: int, dims: int, seed: int) -> Tensor:
    """`dims` of `total` channels in the order drawn (not sorted), (dims,), int64: Python's random.sample, as the original."""
    return torch.tensor(random.Random(seed).sample(range(total), dims))


def stack(maps: Maps) -> Tensor:
    """All taps on the cells of the finest: (B, C_t, h_t, w_t) each to (B, sum C_t, h, w), nearest neighbour."""
    size = finest_grid(maps)
    return torch.cat([_on_cells(x, size) for x in maps], 1)


def choose(maps: Maps, channels: Tensor) -> Tensor:
    """stack(maps)[:, channels] without making the stack: (B, dims, h, w), in channels_last memory."""
    size = finest_grid(maps)
    joined = maps[0].new_empty(len(maps[0]), *size, len(channels))  # (B, h, w, dims)
    start = 0
    for x in maps:
        place = ((channels >= start) & (channels < start + x.shape[1])).nonzero()[:, 0]
        if len(place):
            chosen = x.permute(0, 2, 3, 1).index_select(3, channels[place] - start)  # (B, h_t, w_t, k_t)
            chosen = _on_cells(chosen.permute(0, 3, 1, 2), size)  # (B, k_t, h, w)
            joined.index_copy_(3, place, chosen.permute(0, 2, 3, 1))  # (B, h, w, k_t)
        start += x.shape[1]
    return joined.permute(0, 3, 1, 2)  # (B, dims, h, w)


def finest_grid(maps: Maps) -> tuple[int, int]:
    """Rows and columns of the tap with the most cells."""
    return max(((x.shape[2], x.shape[3]) for x in maps), key=lambda size: size[0] * size[1])


def _on_cells(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")
