"""Patch embeddings: the maps of several taps on the finest one's cells, and a random choice of their channels.

Source: Defard et al. 2020, PaDiM, section III-A, arXiv:2011.08785; golden/NOTES.md section 5.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maps = Sequence[Tensor]


def draw_channels(total: int, dims: int, seed: int) -> Tensor:
    """`dims` of `total` channels in the order drawn (not sorted), (dims,), int64: Python's random.sample, as the original."""
    return torch.tensor(random.Random(seed).sample(range(total), dims))


def stack(maps: Maps) -> Tensor:
    """All taps on the cells of the finest: (B, C_t, h_t, w_t) each to (B, sum C_t, h, w), nearest neighbour."""
    size = finest_grid(maps)
    return torch.cat([_on_cells(x, size) for x in maps], 1)


class ChannelChoice(nn.Module):
    """Chosen channels of the stack of all taps, without making the stack."""

    order: Tensor

    def __init__(self, channels: Tensor, counts: Sequence[int]):
        """channels: of the stack, (dims,), int64. counts: channels of every tap."""
        super().__init__()
        self.counts = list(counts)
        self.set(channels)

    def set(self, channels: Tensor) -> None:
        """Choose other channels. Where they lie is found here, once: a GPU would have to be waited for."""
        ends = torch.tensor(self.counts, device=channels.device).cumsum(0)
        tap = torch.bucketize(channels, ends, right=True)  # (dims,)
        for t, count in enumerate(self.counts):
            self.register_buffer(f"of_tap{t}", channels[tap == t] - (ends[t] - count), persistent=False)  # (k_t,)
        # From the taps' channels one after the other to the order of the choice, (dims,).
        self.register_buffer("order", tap.argsort(stable=True).argsort(), persistent=False)

    def forward(self, maps: Maps) -> Tensor:
        """(B, C_t, h_t, w_t) a tap to stack(maps)[:, channels], (B, dims, h, w), in channels_last memory."""
        size = finest_grid(maps)
        parts = []
        for t, x in enumerate(maps):
            channels = self.get_buffer(f"of_tap{t}")
            if len(channels):
                chosen = x.permute(0, 2, 3, 1)[..., channels]  # (B, h_t, w_t, k_t)
                parts.append(_on_cells(chosen.permute(0, 3, 1, 2), size))  # (B, k_t, h, w)
        joined = torch.cat(parts, 1).permute(0, 2, 3, 1)  # (B, h, w, dims)
        return joined[..., self.order].permute(0, 3, 1, 2)  # (B, dims, h, w)


def finest_grid(maps: Maps) -> tuple[int, int]:
    """Rows and columns of the tap with the most cells."""
    return max(((x.shape[2], x.shape[3]) for x in maps), key=lambda size: size[0] * size[1])


def _on_cells(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")
