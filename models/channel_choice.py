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
    """All taps on the cells of the first: (B, C_t, h_t, w_t) each to (B, sum C_t, h_0, w_0); nearest neighbour."""
    return torch.cat([_on_cells(x, maps[0]) for x in maps], 1)


def choose(maps: Maps, channels: Tensor) -> Tensor:
    """stack(maps)[:, channels] without making the stack: (B, dims, h_0, w_0)."""
    parts, places, start = [], [], 0
    for x in maps:
        place = ((channels >= start) & (channels < start + x.shape[1])).nonzero()[:, 0]
        parts.append(_on_cells(x.index_select(1, channels[place] - start), maps[0]))
        places.append(place)
        start += x.shape[1]
    return torch.cat(parts, 1).index_select(1, torch.cat(places).argsort())


def _on_cells(x: Tensor, finest: Tensor) -> Tensor:
    size = finest.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="nearest")
