"""CFLOW's head: every level of a backbone's features has a flow of its cells' vectors, conditioned on the cell's position.

Source: Gudovskiy et al. 2022, CFLOW-AD, arXiv:2107.12571; exact semantics in tests/golden/README.md section 3.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.flows.all_in_one import AllInOneFlow, row_flow
from models.flows.position_code import position_code

Rows = list[Tensor]


def log_prob_per_dim(latents: Tensor, log_det_jac: Tensor) -> Tensor:
    """log p(x) / C of rows, (N,), nats per dimension, from z, (N, C), and log|det dz/dx|, (N,).

    >>> log_prob_per_dim(torch.zeros(1, 8), log_det_jac=torch.tensor([4.0]))  # 4 / 8 - log(2 pi) / 2
    tensor([-0.4189])
    """
    channels = latents.shape[1]
    return (log_det_jac - 0.5 * latents.square().sum(1)) / channels - 0.5 * math.log(2 * math.pi)


def sigmoid_loss(log_probs: Tensor) -> Tensor:
    """Mean of -log sigmoid(log p / C) over log_probs of any shape, a scalar.

    It falls with log p as the negative log-likelihood does, but cells that are already likely count less.
    Source: the authors' code (tests/golden/README.md section 3).

    >>> sigmoid_loss(torch.tensor([0.0, 0.0]))  # log 2
    tensor(0.6931)
    """
    return -F.logsigmoid(log_probs).mean()


class PositionFlows(nn.Module):
    """Rows (B, cells_l, C_l), one tensor per level, to the log-likelihood of every cell.

    A cell's condition is its position code, the same for every image, so its part of the subnets' first layer is computed
    once per call. Untrained flows are rotations, because the subnets' last layers start at 0. The original draws them: drawn
    ones multiply a cell far from the others by up to e^(clamp * steps) before anything is learned.

    >>> generator = torch.Generator().manual_seed(0)
    >>> flows = PositionFlows(channels=[8], grids=[(3, 4)], position_channels=4, steps=2, generator=generator)
    >>> flows([torch.randn(2, 12, 8)])[0].shape
    torch.Size([2, 12])
    """

    flows: Sequence[AllInOneFlow]

    def __init__(
        self,
        channels: Sequence[int],
        grids: Sequence[tuple[int, int]],
        position_channels: int,
        steps: int,
        generator: torch.Generator,
        clamp: float = 1.9,
    ):
        super().__init__()
        flows: Any = nn.ModuleList(row_flow(c, position_channels, steps, generator, clamp) for c in channels)
        self.flows = flows
        for flow in self.flows:
            for block in flow.blocks:
                nn.init.zeros_(block.subnet.leave.weight)
                nn.init.zeros_(block.subnet.leave.bias)
        for level, grid in enumerate(grids):
            code = position_code(position_channels, *grid).flatten(1).T.contiguous()  # (cells, P)
            self.register_buffer(f"code{level}", code, persistent=False)

    def codes(self) -> Rows:
        """Position codes of every level, (cells_l, P), cells row by row."""
        return [self.get_buffer(f"code{level}") for level in range(len(self.flows))]

    def set_layer_dtype(self, dtype: torch.dtype | None) -> None:
        """Run the subnets' layers in this dtype; all else keeps the dtype of the input."""
        for flow in self.flows:
            flow.set_layer_dtype(dtype)

    def freeze(self) -> None:
        """Prepare the subnets' weights until others are loaded or the module moves; changes in place are not seen."""
        for flow in self.flows:
            flow.freeze()

    def latents(self, rows: Rows) -> Rows:
        """z of every cell of the grids, per level (B, cells_l, C_l), without the log-determinant."""
        return [
            flow.latents(x.flatten(0, 1), code).unflatten(0, x.shape[:2])  # (B, cells, C)
            for flow, x, code in zip(self.flows, rows, self.codes(), strict=True)
        ]

    def forward(self, rows: Rows, cells: Rows | None = None) -> Rows:
        """log p / C of every cell, per level (B, n_l), nats per dimension; higher is more usual.

        Args:
            rows: per level (B, n_l, C_l).
            cells: the rows' cells in the grid, per level (n_l,), int64; None means all cells in order.
        """
        codes = self.codes()
        if cells is not None:
            codes = [code[chosen] for code, chosen in zip(codes, cells, strict=True)]
        log_probs = []
        for flow, x, code in zip(self.flows, rows, codes, strict=True):
            latents, log_det_jac = flow(x.flatten(0, 1), code)  # (B * n, C), (B * n,)
            log_probs.append(log_prob_per_dim(latents, log_det_jac).unflatten(0, x.shape[:2]))  # (B, n)
        return log_probs
