"""FastFlow's head: every level of a backbone's features has a flow of its own, and none reads another's.

Source: Yu et al. 2021, FastFlow, arXiv:2111.07677; exact semantics in tests/golden/README.md section 4 (no official code).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.flows.all_in_one import AllInOneFlow, map_flow
from models.flows.likelihood import nll_cells
from models.maps.grids import Maps, resized
from models.roi.cells import Cells

CPU_ELEMENTS_PER_PASS = 2**19  # 2 MiB; 64 x 64 maps of 128 channels take two thirds of the time one by one, not by 16


class LevelFlows(nn.Module):
    """Maps (B, C_l, h_l, w_l), one per level, to latents of their shapes.

    >>> flows = LevelFlows([8, 6], kernels=(3, 1), hidden_ratio=1.0, generator=torch.Generator().manual_seed(0))
    >>> latents, log_det_jac = flows([torch.randn(2, 8, 4, 4), torch.randn(2, 6, 2, 2)])
    >>> latents[1].shape, log_det_jac.shape
    (torch.Size([2, 6, 2, 2]), torch.Size([2, 2]))
    """

    flows: Sequence[AllInOneFlow]

    def __init__(
        self,
        channels: Sequence[int],
        kernels: Sequence[int],
        hidden_ratio: float,
        generator: torch.Generator,
        clamp: float = 2.0,
        norm_grids: Sequence[tuple[int, int]] | None = None,
    ):
        """norm_grids: (h_l, w_l) of every level; if given, a trainable LayerNorm over (C, h, w) comes first."""
        super().__init__()
        norms: Any = None
        if norm_grids is not None:
            norms = nn.ModuleList(nn.LayerNorm((c, *grid)) for c, grid in zip(channels, norm_grids, strict=True))
        self.norms = norms
        flows: Any = nn.ModuleList(map_flow(c, kernels, hidden_ratio, generator, clamp) for c in channels)
        self.flows = flows

    def set_layer_dtype(self, dtype: torch.dtype | None) -> None:
        """Run the convolutions in this dtype; all else keeps the dtype of the input."""
        for flow in self.flows:
            flow.set_layer_dtype(dtype)

    def start_as_permutation(self) -> None:
        """Make the flows only permute channels until they are trained."""
        for flow in self.flows:
            flow.start_as_permutation()

    def see_only(self, levels: Sequence[Cells]) -> None:
        """Keep the cells that do not count at 0, where the maps must be 0, and out of the log-determinant."""
        for flow, cells in zip(self.flows, levels, strict=True):
            for block in flow.blocks:
                block.seen = (cells,)

    def freeze(self) -> None:
        """Prepare the convolutions' weights until others are loaded or the module moves; changes in place are not seen."""
        for flow in self.flows:
            flow.freeze()

    def normed(self, maps: Maps) -> Maps:
        """The maps that the flows read. With norms, every image has mean 0 and variance 1, then times weight plus bias."""
        if self.norms is None:
            return maps
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]

    def forward(self, maps: Maps) -> tuple[Maps, Tensor]:
        """Latents z and log|det dz/dx| of every level, (B, levels), nats.

        A LayerNorm is not part of x -> z: it divides by the image's own standard deviation, and the original leaves it
        out of the density as well.
        """
        results = [flow(x) for flow, x in zip(self.flows, self.normed(maps), strict=True)]
        return [z for z, _ in results], torch.stack([log_det_jac for _, log_det_jac in results], 1)  # (B, levels)

    def latents(self, maps: Maps) -> Maps:
        """Latents without the log-determinant."""
        return self.latents_of_normed(self.normed(maps))

    def latents_of_normed(self, maps: Maps) -> Maps:
        """The same from the result of `normed`."""
        return [
            torch.cat([flow.latents(part) for part in _passes(x)])  # (B, C, h, w)
            for flow, x in zip(self.flows, maps, strict=True)
        ]

    def cells_of_normed(self, maps: Maps) -> tuple[Maps, Maps]:
        """From the result of `normed`: latents, and what every cell adds to log|det dz/dx|, (B, h_l, w_l) per level, nats."""
        latents, log_dets = [], []
        for flow, x in zip(self.flows, maps, strict=True):
            parts = [flow.with_cell_log_det(part) for part in _passes(x)]
            latents.append(torch.cat([z for z, _ in parts]))  # (B, C, h, w)
            log_dets.append(torch.cat([log_det_jac for _, log_det_jac in parts]))  # (B, h, w)
        return latents, log_dets


def _passes(x: Tensor) -> Sequence[Tensor]:
    """The images in parts whose states stay in a processor's cache; a GPU gets all at once. The parts have one size, so
    that every image meets the same arithmetic whatever its slot."""
    if x.device.type != "cpu":
        return [x]
    images = max(1, min(len(x), CPU_ELEMENTS_PER_PASS // x[0].numel()))
    while len(x) % images:
        images -= 1
    return x.split(images)


def energy_map(latents: Maps, size: tuple[int, int], levels: Sequence[Cells] | None = None) -> Tensor:
    """Mean over the levels of the channel mean of z^2, (B, *size), 0 and above; higher is more anomalous.

    size: rows and columns; levels of other sizes are interpolated.  levels: the cells that count; None: all.

    >>> energy_map([torch.full((1, 8, 4, 4), 2.0), torch.zeros(1, 6, 2, 2)], size=(4, 4))[0, 0]
    tensor([2., 2., 2., 2.])
    """
    return _level_mean([z.square().mean(1) for z in latents], size, levels)


def nll_map(latents: Maps, log_dets: Maps, size: tuple[int, int], levels: Sequence[Cells] | None = None) -> Tensor:
    """Mean over the levels of the negative log-likelihood per channel, (B, *size), nats; it may be negative.

    Args:
        latents, log_dets: as `LevelFlows.cells_of_normed` returns them.
        size: rows and columns; levels of other sizes are interpolated.
        levels: which cells of every level count; None: all.

    >>> nll_map([torch.full((1, 8, 1, 2), 2.0)], [torch.tensor([[[0.0, 8.0]]])], size=(1, 2))
    tensor([[[2., 1.]]])
    """
    cells = [nll_cells(z, log_det_jac) for z, log_det_jac in zip(latents, log_dets, strict=True)]
    return _level_mean(cells, size, levels)


def likelihood_map(latents: Maps, size: tuple[int, int], levels: Sequence[Cells] | None = None) -> Tensor:
    """One minus the mean over the levels of exp(-mean_c z^2 / 2), (B, *size), in [0, 1]; higher is more anomalous.

    The original's map is this one minus 1, in [-1, 0]. Where the channel mean of z^2 is above about 30, float32 cannot tell
    this map from 1, so the maximum over the cells says little.

    >>> likelihood_map([torch.zeros(1, 8, 2, 2), torch.full((1, 6, 1, 1), 9.0)], size=(2, 2))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """
    return 1 - _level_mean([torch.exp(-0.5 * z.square().mean(1)) for z in latents], size, levels)


def _level_mean(maps: Maps, size: tuple[int, int], levels: Sequence[Cells] | None) -> Tensor:
    """(B, h_l, w_l) per level to (B, *size)."""
    if levels is None:
        return torch.stack([resized(x, size) for x in maps]).mean(0)  # (B, *size)
    return torch.stack([cells.resized(x, size) for cells, x in zip(levels, maps, strict=True)]).mean(0)  # (B, *size)
