"""CS-Flow: couplings whose sub-networks exchange information between the scales of a feature pyramid.

Source: Rudolph et al. 2021, Fully Convolutional Cross-Scale-Flows, arXiv:2110.02855; exact semantics in
tests/golden/README.md section 1. The original inverse takes the shift of the second half-step from the wrong sub-network;
this one is exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.flows.coupling import couple, legacy_permutations, uncouple
from models.flows.order import ordered
from models.maps.grids import Maps
from models.precision import bounded, conv2d, narrowed, products_in
from models.prepared import Prepared
from models.roi.cells import Cells

LEAKY_SLOPE = 0.1


class Kernels(NamedTuple):
    """The convolutions into one scale of a sub-network: weights (C_out, C_in, k, k) and biases."""

    enter: Tensor
    enter_bias: Tensor
    leave: Tensor  # stacked with the convolution of the upsampled coarser scale
    leave_bias: Tensor
    down: Tensor | None  # from the finer scale, stride 2

    def channels_last(self) -> "Kernels":
        layout = torch.channels_last
        return self._replace(
            enter=self.enter.contiguous(memory_format=layout),
            leave=self.leave.contiguous(memory_format=layout),
            down=None if self.down is None else self.down.contiguous(memory_format=layout),
        )


class CrossConvolution(Prepared):
    """Sub-network of one half-step: two convolutions per scale; the second also reads the neighbouring scales.

    Convolutions run in conv_dtype if it is set (bf16, and fp16 without gradients), else in the dtype of their input; the
    result always has the input's dtype.

    >>> subnet = CrossConvolution(in_channels=2, out_channels=4, hidden=8, kernel=3, scales=2)
    >>> [tuple(x.shape) for x in subnet([torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)])]
    [(1, 4, 8, 8), (1, 4, 4, 4)]
    """

    enter: Sequence[nn.Conv2d]
    leave: Sequence[nn.Conv2d]
    up: Sequence[nn.Conv2d]
    down: Sequence[nn.Conv2d]

    def __init__(self, in_channels: int, out_channels: int, hidden: int, kernel: int, scales: int):
        super().__init__()

        def convolutions(count: int, inputs: int, outputs: int, stride: int = 1) -> Any:
            return nn.ModuleList(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2) for _ in range(count))

        self.enter = convolutions(scales, in_channels, hidden)
        self.leave = convolutions(scales, hidden, out_channels)
        self.up = convolutions(scales - 1, hidden, out_channels)  # up[i]: from scale i + 1 to scale i
        self.down = convolutions(scales - 1, hidden, out_channels, stride=2)  # down[i]: from scale i to scale i + 1
        self.gamma = nn.Parameter(torch.zeros(scales))  # 0 at first, so an untrained flow only permutes
        self.padding = kernel // 2
        self.conv_dtype: torch.dtype | None = None
        self.frozen: list[Kernels] | None = None
        self.seen: Sequence[Cells] | None = None

    def kernels(self, dtype: torch.dtype) -> list["Kernels"]:
        """The convolutions' weights per scale, in the dtype in which they run.

        conv(h_i) + conv(up(h_i+1)) is one convolution over the stacked channels, which takes fewer passes over memory.
        """
        prepared = []
        for i, (enter, leave) in enumerate(zip(self.enter, self.leave, strict=True)):
            weight, bias, down = leave.weight, _bias(leave), None
            if i < len(self.up):
                weight, bias = torch.cat([weight, self.up[i].weight], 1), bias + _bias(self.up[i])
            if i > 0:
                down, bias = self.down[i - 1].weight.to(dtype), bias + _bias(self.down[i - 1])
            prepared.append(Kernels(enter.weight.to(dtype), _bias(enter).to(dtype), weight.to(dtype), bias.to(dtype), down))
        return prepared

    def forward(self, maps: Maps) -> Maps:
        """(B, C_in, H_i, W_i) per scale to (B, C_out, H_i, W_i) per scale."""
        dtype = products_in(self.conv_dtype, maps[0].dtype)
        kernels = self.frozen if self.frozen and self.frozen[0].enter.dtype == dtype else self.kernels(dtype)
        hidden = [
            F.leaky_relu_(bounded(conv2d(narrowed(x, dtype), k.enter, k.enter_bias, padding=self.padding)), LEAKY_SLOPE)
            for x, k in zip(maps, kernels, strict=True)
        ]
        outputs = []
        for i, k in enumerate(kernels):
            inputs = hidden[i]
            if i < len(self.up):
                raised = F.interpolate(hidden[i + 1], size=inputs.shape[-2:], mode="bilinear", align_corners=False)
                inputs = torch.cat([inputs, raised], 1)
            out = bounded(conv2d(inputs, k.leave, k.leave_bias, padding=self.padding))
            if k.down is not None:
                out = bounded(out + bounded(conv2d(hidden[i - 1], k.down, stride=2, padding=self.padding)))
            outputs.append(out.to(maps[i].dtype) * self.gamma[i])
        return outputs if self.seen is None else [cells.zeroed(x) for cells, x in zip(self.seen, outputs, strict=True)]


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


class CrossScaleCoupling(nn.Module):
    """One block: permute the channels of every scale, then change the first half given the second, and vice versa.

    >>> block = CrossScaleCoupling(index=0, channels=4, hidden=8, kernel=3, scales=1, clamp=3.0)
    >>> maps = [torch.randn(1, 4, 2, 2)]
    >>> torch.equal(block.inverse(block.couple(block.permute(maps))[0])[0], maps[0])  # untrained it only permutes
    True
    """

    permutations: Tensor
    inverse_permutations: Tensor

    def __init__(self, index: int, channels: int, hidden: int, kernel: int, scales: int, clamp: float):
        super().__init__()
        self.first = channels // 2  # the second half has the odd channel
        self.clamp = clamp
        order = torch.from_numpy(legacy_permutations(index, channels, scales))
        self.register_buffer("permutations", order)
        self.register_buffer("inverse_permutations", order.argsort(dim=1), persistent=False)
        second = channels - self.first
        self.second_to_first = CrossConvolution(second, 2 * self.first, hidden, kernel, scales)
        self.first_to_second = CrossConvolution(self.first, 2 * second, hidden, kernel, scales)

    def permute(self, maps: Maps) -> Maps:
        return [ordered(x, order) for x, order in zip(maps, self.permutations, strict=True)]

    def couple(self, maps: Maps) -> tuple[Maps, list[Maps]]:
        """Returns the changed maps and, for each half-step, the log-scales per scale."""
        first, second = [x[:, : self.first] for x in maps], [x[:, self.first :] for x in maps]
        first, first_log_scales = self._step(first, second, self.second_to_first)
        second, second_log_scales = self._step(second, first, self.first_to_second)
        joined = [torch.cat(halves, 1) for halves in zip(first, second, strict=True)]
        return joined, [first_log_scales, second_log_scales]

    def _step(self, changing: Maps, given: Maps, subnet: CrossConvolution) -> tuple[Maps, Maps]:
        changed = [couple(x, out, self.clamp) for x, out in zip(changing, subnet(given), strict=True)]
        return [x for x, _ in changed], [log_scale for _, log_scale in changed]

    def inverse(self, maps: Maps) -> Maps:
        first, second = [x[:, : self.first] for x in maps], [x[:, self.first :] for x in maps]
        second = self._undo(second, first, self.first_to_second)
        first = self._undo(first, second, self.second_to_first)
        joined = [torch.cat(halves, 1) for halves in zip(first, second, strict=True)]
        return [ordered(x, order) for x, order in zip(joined, self.inverse_permutations, strict=True)]

    def _undo(self, changed: Maps, given: Maps, subnet: CrossConvolution) -> Maps:
        return [uncouple(x, out, self.clamp) for x, out in zip(changed, subnet(given), strict=True)]


class CrossScaleFlow(nn.Module):
    """Invertible map of a feature pyramid, (B, C, H_i, W_i) per scale, H_i+1 = ceil(H_i / 2), to latents of its shape.

    >>> flow = CrossScaleFlow(channels=4, scales=2, hidden=8, kernels=(3, 3))
    >>> latents, log_det_jac = flow([torch.randn(5, 4, 8, 8), torch.randn(5, 4, 4, 4)])
    >>> latents[1].shape, log_det_jac.shape
    (torch.Size([5, 4, 4, 4]), torch.Size([5, 2]))
    """

    blocks: Sequence[CrossScaleCoupling]

    def __init__(self, channels: int, scales: int, hidden: int, kernels: tuple[int, ...], clamp: float = 3.0):
        super().__init__()
        blocks: Any = nn.ModuleList(
            CrossScaleCoupling(index, channels, hidden, kernel, scales, clamp) for index, kernel in enumerate(kernels)
        )
        self.blocks = blocks

    def set_conv_dtype(self, dtype: torch.dtype | None) -> None:
        """Run convolutions in this dtype; the coupling state, exp and sums keep the dtype of the input and parameters."""
        for module in self.modules():
            if isinstance(module, CrossConvolution):
                module.conv_dtype = dtype

    def see_only(self, scales: Sequence[Cells]) -> None:
        """Change nothing in the cells that do not count: where the maps are 0 there, so are the latents, and they add nothing
        to the log-determinant. What is left is a flow of the cells that count."""
        for module in self.modules():
            if isinstance(module, CrossConvolution):
                module.seen = (*scales,)

    def freeze(self) -> None:
        """Prepare the convolutions' weights until others are loaded or the module moves; changes in place are not seen."""
        for module in self.modules():
            if isinstance(module, CrossConvolution):
                module.frozen = None
                with torch.no_grad():
                    dtype = module.conv_dtype or module.gamma.dtype
                    module.frozen = [k.channels_last() for k in module.kernels(dtype)]

    def forward(self, features: Maps) -> tuple[Maps, Tensor]:
        """Latents z, per scale (B, C, H_i, W_i), and log|det dz/dx| of every scale, (B, scales), nats."""
        maps = features
        log_det_jac = torch.zeros(len(maps[0]), len(maps), dtype=maps[0].dtype, device=maps[0].device)
        for block in self.blocks:
            maps, log_scales = block.couple(block.permute(maps))
            for half in log_scales:
                log_det_jac = log_det_jac + torch.stack([part.sum(dim=(1, 2, 3)) for part in half], 1)
        return maps, log_det_jac

    def with_cell_log_det(self, features: Maps) -> tuple[Maps, Tensor]:
        """Latents, and what every cell of scale 0 adds to log|det dz/dx|, (B, H_0, W_0), nats: its log-scales of all steps."""
        maps = features
        log_det_jac = torch.zeros_like(maps[0][:, 0])
        for block in self.blocks:
            maps, log_scales = block.couple(block.permute(maps))
            for half in log_scales:
                log_det_jac = log_det_jac + half[0].sum(1)
        return maps, log_det_jac

    def latents(self, features: Maps) -> Maps:
        """Latents without the log-determinant."""
        maps = features
        for block in self.blocks:
            maps, _ = block.couple(block.permute(maps))
        return maps

    def inverse(self, latents: Maps) -> Maps:
        """Features x from latents z."""
        maps = latents
        for block in reversed(self.blocks):
            maps = block.inverse(maps)
        return maps
