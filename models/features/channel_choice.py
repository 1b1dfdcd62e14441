"""Patch embeddings: the maps of several taps on the cells of the finest, and a random choice of their channels.

Source: Defard et al. 2020, PaDiM, section III-A, arXiv:2011.08785; tests/golden/README.md section 5.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.maps.grids import Maps


def draw_channels(total: int, dims: int, seed: int) -> Tensor:
    """`dims` of `total` channels, (dims,), int64, in the order that Python's random.sample draws them, as in the original.

    >>> draw_channels(total=448, dims=4, seed=1024)
    tensor([408,   9, 247, 435])
    """
    return torch.tensor(random.Random(seed).sample(range(total), dims), dtype=torch.int64)


def draw_evenly(counts: Sequence[int], dims: int, seed: int) -> Tensor:
    """`dims` channels of the stack of taps that have so many, (dims,), int64: of every tap as many, of one that has fewer all.

    >>> draw_evenly(counts=[4, 16, 32], dims=12, seed=1024)
    tensor([ 0,  1,  2,  3,  4, 11, 17, 10, 21, 50, 44, 40])
    """
    taken = [0] * len(counts)
    for rank, tap in enumerate(sorted(range(len(counts)), key=lambda tap: counts[tap])):
        taken[tap] = min(counts[tap], (dims - sum(taken)) // (len(counts) - rank))
    starts = [sum(counts[:tap]) for tap in range(len(counts))]
    drawn = zip(starts, counts, taken, strict=True)
    return torch.cat([start + draw_channels(count, some, seed) for start, count, some in drawn])


def stack(maps: Maps) -> Tensor:
    """All taps on the cells of the finest: (B, C_t, h_t, w_t) each to (B, sum C_t, h, w), nearest neighbour.

    >>> stack([torch.zeros(2, 16, 8, 8), torch.zeros(2, 32, 4, 4)]).shape
    torch.Size([2, 48, 8, 8])
    """
    size = finest_grid(maps)
    return torch.cat([_on_cells(x, size) for x in maps], 1)


class ChannelChoice(nn.Module):
    """Picks channels of the stack of all taps without making the stack.

    >>> maps = [torch.zeros(2, 16, 8, 8), torch.ones(2, 32, 4, 4)]
    >>> ChannelChoice(torch.tensor([40, 3]), counts=[16, 32])(maps)[0, :, 0, 0]
    tensor([1., 0.])
    """

    def __init__(self, channels: Tensor, counts: Sequence[int]):
        """channels: of the stack, (dims,), int64. counts: channels of every tap."""
        super().__init__()
        self.counts = list(counts)
        self.set(channels)

    def set(self, channels: Tensor) -> None:
        """Choose other channels. Their places are found here, once, because a search in `forward` would wait for the GPU."""
        self.dims, start = len(channels), 0
        for t, count in enumerate(self.counts):
            place = ((channels >= start) & (channels < start + count)).nonzero()[:, 0]
            self.register_buffer(f"place{t}", place, persistent=False)  # in the choice, (k_t,)
            self.register_buffer(f"of_tap{t}", channels[place] - start, persistent=False)  # in the tap, (k_t,)
            start += count

    def forward(self, maps: Maps) -> Tensor:
        """(B, C_t, h_t, w_t) per tap to stack(maps)[:, channels], (B, dims, h, w), in channels_last memory."""
        size = finest_grid(maps)
        joined = maps[0].new_empty(len(maps[0]), *size, self.dims)  # (B, h, w, dims)
        for t, x in enumerate(maps):
            place = self.get_buffer(f"place{t}")
            if len(place):
                chosen = x.permute(0, 2, 3, 1).index_select(3, self.get_buffer(f"of_tap{t}"))  # (B, h_t, w_t, k_t)
                chosen = _on_cells(chosen.permute(0, 3, 1, 2), size)  # (B, k_t, h, w)
                joined.index_copy_(3, place, chosen.permute(0, 2, 3, 1))  # (B, h, w, k_t)
        return joined.permute(0, 3, 1, 2)  # (B, dims, h, w)


def finest_grid(maps: Maps) -> tuple[int, int]:
    """Rows and columns of the tap with the most cells.

    >>> finest_grid([torch.zeros(2, 16, 8, 6), torch.zeros(2, 32, 4, 3)])
    (8, 6)
    """
    return max(((x.shape[2], x.shape[3]) for x in maps), key=lambda size: size[0] * size[1])


def _on_cells(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")
