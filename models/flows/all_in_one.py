"""The affine coupling block of CFLOW-AD and FastFlow: it changes half the channels, then scales and shifts all, then permutes.

One block serves rows (N, C), with linear layers, and maps (B, C, H, W), with convolutions. Source: FrEIA 0.2's
AllInOneBlock as tests/golden/README.md sections 3 and 4 describe it (Ardizzone et al. 2018). It clamps with
clamp * tanh(a), which later versions changed.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.flows.order import ordered
from models.flows.subnet import Subnet
from models.roi.cells import Cells

SUBNET_FACTOR = 0.1  # multiplies the subnet's output, log-scale and shift
SOFTPLUS_BETA = 0.5
GAIN_FACTOR = 0.1
UNIT_GAIN = 2 * math.log(math.exp(5) - 1)  # the global_scale that makes the gain 0.1 * softplus(global_scale) one


def rotation(channels: int, generator: torch.Generator) -> Tensor:
    """A uniformly random matrix of SO(C), (C, C) float64.

    Source: Mezzadri 2006, How to generate random matrices from the classical compact groups, section 5, arXiv:math-ph/0609050.

    >>> matrix = rotation(4, torch.Generator().manual_seed(0))
    >>> torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64)), round(float(torch.det(matrix)), 6)
    (True, 1.0)
    """
    normal = torch.randn(channels, channels, dtype=torch.float64, generator=generator)
    orthogonal, triangular = torch.linalg.qr(normal)
    orthogonal = orthogonal * triangular.diagonal().sign()
    if torch.linalg.det(orthogonal) < 0:
        orthogonal[:, 0] = -orthogonal[:, 0]
    return orthogonal


class AllInOneBlock(nn.Module):
    """z = P(G * cat(x1, x2 * exp(s) + t) + offset) with (s, t) from x1 and a condition; x1 is the first ceil(C / 2) channels.

    The state keeps the dtype of the input and the parameters. The permutation P is an order of the channels (perm_idx), or,
    if soft, a rotation matrix, kept in float64 so that its determinant is 1 and its inverse exact.

    >>> block = AllInOneBlock(5, hidden=8, kernel=3, clamp=2.0, generator=torch.Generator().manual_seed(0))
    >>> z, log_det_jac = block(torch.zeros(2, 5, 4, 4))
    >>> z.shape, log_det_jac.shape
    (torch.Size([2, 5, 4, 4]), torch.Size([2]))
    """

    perm_idx: Tensor
    rotation: Tensor

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel: int | None,
        clamp: float,
        generator: torch.Generator,
        condition: int = 0,
        soft: bool = False,
    ):
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels must be at least 2; got {channels}. Choose a tap with more channels.")
        self.sizes = (channels - channels // 2, channels // 2)  # channels of x1, which has the odd one, and of x2
        self.clamp = clamp
        self.soft = soft
        self.seen = (Cells(None, (0, 0)),)  # a tuple, so that it is no module of the block
        self.subnet = Subnet(self.sizes[0] + condition, hidden, 2 * self.sizes[1], kernel, generator)
        self.global_scale = nn.Parameter(torch.full((channels,), UNIT_GAIN))
        self.global_offset = nn.Parameter(torch.zeros(channels))
        if soft:
            self.register_buffer("rotation", rotation(channels, generator))
        else:
            self.register_buffer("perm_idx", torch.randperm(channels, generator=generator))

    def gain(self) -> Tensor:
        """G, (C,), positive."""
        return GAIN_FACTOR * F.softplus(self.global_scale, beta=SOFTPLUS_BETA)

    def _couple(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the block's output and s, (B, floor(C/2), ...)."""
        given, changing = x.split(self.sizes, 1)
        log_scale, shift = self._log_scale_and_shift(given, condition)
        changed = torch.addcmul(shift, changing, log_scale.exp())
        joined = torch.cat([given, changed], 1)  # (B, C, ...)
        joined = torch.addcmul(_along(self.global_offset, x), joined, _along(self.gain(), x))
        return self._permute(self.seen[0].zeroed(joined)), log_scale

    def _log_scale_and_shift(self, given: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = (SUBNET_FACTOR * self.subnet(given, condition)).chunk(2, 1)
        return self.seen[0].zeroed(self.clamp * torch.tanh(raw)), shift

    def _permute(self, x: Tensor) -> Tensor:
        if not self.soft:
            return ordered(x, self.perm_idx)
        return torch.movedim(F.linear(torch.movedim(x, 1, -1), self.rotation.to(x.dtype)), -1, 1)  # (B, C, ...)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step x -> z.

        Args:
            x: (N, C) or (B, C, H, W).
            condition: (M, P) or (M, P, H, W); N or B is a multiple of M, and row or image i has condition i mod M.
        Returns:
            z of x's shape, and log|det dz/dx| per row or image, (B,), nats.
        """
        z, log_scale = self._couple(x, condition)
        cells = self.seen[0].count or math.prod(x.shape[2:])
        return z, log_scale.flatten(1).sum(1) + cells * self.gain().log().sum()

    def latents(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """z without the log-determinant."""
        return self._couple(x, condition)[0]

    def with_cell_log_det(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and what every row or cell adds to log|det dz/dx|, (N,) or (B, H, W), nats."""
        z, log_scale = self._couple(x, condition)
        return z, log_scale.sum(1) + self.gain().log().sum()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """x from z."""
        if self.soft:
            # A matrix rounded to float32 is not quite orthogonal, so its transpose is not its inverse.
            matrix = self.rotation.to(z.dtype)
            joined = torch.linalg.solve(matrix, torch.movedim(z, 1, 0).flatten(1))  # (C, B * ...)
            joined = torch.movedim(joined.unflatten(1, (z.shape[0], *z.shape[2:])), 0, 1)  # (B, C, ...)
        else:
            joined = ordered(z, self.perm_idx.argsort())
        joined = (joined - _along(self.global_offset, z)) / _along(self.gain(), z)
        given, changed = joined.split(self.sizes, 1)
        log_scale, shift = self._log_scale_and_shift(given, condition)
        return torch.cat([given, (changed - shift) * torch.exp(-log_scale)], 1)  # (B, C, ...)


def _along(vector: Tensor, x: Tensor) -> Tensor:
    """A vector of the channels in a shape that broadcasts over x: (1, C, 1, ...)."""
    return vector.view(1, -1, *(1,) * (x.ndim - 2))  # (1, C, 1, ...)


class AllInOneFlow(nn.Module):
    """Blocks in sequence, under one condition: (N, C) or (B, C, H, W) to latents of its shape.

    >>> flow = map_flow(4, kernels=(3, 1), hidden_ratio=1.0, generator=torch.Generator().manual_seed(0))
    >>> x = torch.ones(1, 4, 3, 3)
    >>> torch.allclose(flow.inverse(flow.latents(x)), x, atol=1e-5)
    True
    """

    blocks: Sequence[AllInOneBlock]

    def __init__(self, blocks: Sequence[AllInOneBlock]):
        super().__init__()
        modules: Any = nn.ModuleList(blocks)
        self.blocks = modules

    def set_layer_dtype(self, dtype: torch.dtype | None) -> None:
        """Run the subnets' layers in this dtype; the state, exp, tanh and sums keep the dtype of the input."""
        for block in self.blocks:
            block.subnet.layer_dtype = dtype

    def freeze(self) -> None:
        """Prepare the subnets' weights until others are loaded or the module moves; changes in place are not seen."""
        for block in self.blocks:
            block.subnet.freeze()

    def start_as_permutation(self) -> None:
        """Zero the subnets' last layers: an untrained flow then only permutes or rotates, so an input near standard normal
        stays near it."""
        for block in self.blocks:
            nn.init.zeros_(block.subnet.leave.weight)
            nn.init.zeros_(block.subnet.leave.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents z of x's shape, and log|det dz/dx| per row or image, (B,), nats."""
        log_det_jac = x.new_zeros(len(x))
        for block in self.blocks:
            x, part = block(x, condition)
            log_det_jac = log_det_jac + part
        return x, log_det_jac

    def latents(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """z without the log-determinant."""
        for block in self.blocks:
            x = block.latents(x, condition)
        return x

    def with_cell_log_det(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and what every row or cell adds to log|det dz/dx|, (N,) or (B, H, W), nats."""
        log_det_jac = torch.zeros_like(x[:, 0])
        for block in self.blocks:
            x, part = block.with_cell_log_det(x, condition)
            log_det_jac = log_det_jac + part
        return x, log_det_jac

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """x from z."""
        for block in reversed(self.blocks):
            z = block.inverse(z, condition)
        return z


def row_flow(channels: int, condition: int, steps: int, generator: torch.Generator, clamp: float = 1.9) -> AllInOneFlow:
    """CFLOW-AD's decoder of one level: rows (N, C) given (N, P), hidden 2 (ceil(C/2) + P), rotations between the couplings.

    Source: Gudovskiy et al. 2021, arXiv:2107.12571; tests/golden/README.md section 3.

    >>> flow = row_flow(6, condition=4, steps=2, generator=torch.Generator().manual_seed(0))
    >>> flow.latents(torch.zeros(10, 6), condition=torch.zeros(5, 4)).shape
    torch.Size([10, 6])
    """
    hidden = 2 * (channels - channels // 2 + condition)
    return AllInOneFlow([AllInOneBlock(channels, hidden, None, clamp, generator, condition, soft=True) for _ in range(steps)])


def map_flow(
    channels: int, kernels: Sequence[int], hidden_ratio: float, generator: torch.Generator, clamp: float = 2.0
) -> AllInOneFlow:
    """FastFlow's flow of one level: maps (B, C, H, W), a block per kernel, hidden floor(ceil(C/2) * ratio) but at least 1.

    Source: Yu et al. 2021, arXiv:2111.07677; tests/golden/README.md section 4.

    >>> flow = map_flow(6, kernels=(3, 1), hidden_ratio=0.5, generator=torch.Generator().manual_seed(0))
    >>> flow.latents(torch.zeros(2, 6, 8, 8)).shape
    torch.Size([2, 6, 8, 8])
    """
    hidden = max(1, int((channels - channels // 2) * hidden_ratio))
    return AllInOneFlow([AllInOneBlock(channels, hidden, kernel, clamp, generator) for kernel in kernels])
