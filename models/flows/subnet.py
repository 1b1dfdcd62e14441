"""The two-layer subnet of an all-in-one block, for rows and for maps."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.precision import bounded, conv2d, linear, narrowed, products_in
from models.prepared import Prepared


class Layers(NamedTuple):
    """A subnet's weights and biases in the dtype in which it runs."""

    enter: Tensor
    enter_bias: Tensor
    leave: Tensor
    leave_bias: Tensor


class Subnet(Prepared):
    """Two layers with a ReLU between: convolutions that keep the size, or linear ones (kernel None).

    They run in layer_dtype if set (bf16; fp16 without gradients), else in their input's dtype, which the result has too.

    >>> subnet = Subnet(inputs=5, hidden=8, outputs=4, kernel=None, generator=torch.Generator().manual_seed(0))
    >>> subnet(torch.ones(6, 3), condition=torch.ones(2, 2)).shape
    torch.Size([6, 4])
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int | None, generator: torch.Generator):
        super().__init__()
        self.kernel = kernel
        self.enter = _layer(inputs, hidden, kernel, generator)
        self.leave = _layer(hidden, outputs, kernel, generator)
        self.layer_dtype: torch.dtype | None = None
        self.frozen: Layers | None = None

    def layers(self, dtype: torch.dtype) -> Layers:
        return Layers(*(x.to(dtype) for x in (self.enter.weight, self.enter.bias, self.leave.weight, self.leave.bias)))

    def freeze(self) -> None:
        self.frozen = None
        with torch.no_grad():
            layers = self.layers(self.layer_dtype or self.enter.weight.dtype)
        if self.kernel is not None:
            layers = Layers(
                layers.enter.contiguous(memory_format=torch.channels_last),
                layers.enter_bias,
                layers.leave.contiguous(memory_format=torch.channels_last),
                layers.leave_bias,
            )
        self.frozen = layers

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, ...) and a condition (M, P, ...), where C + P = inputs and B is a multiple of M, to (B, outputs, ...).

        Input b has the condition b mod M. The condition's part of the first layer, W cat(x, c) = W_x x + W_c c, is computed
        M times, not B times.
        """
        dtype = products_in(self.layer_dtype, x.dtype)
        layers = self.frozen if self.frozen and self.frozen.enter.dtype == dtype else self.layers(dtype)
        if condition is None:
            hidden = self._run(narrowed(x, dtype), layers.enter, layers.enter_bias)
        else:
            of_x, of_condition = layers.enter.split((x.shape[1], condition.shape[1]), 1)
            shared = self._run(condition.to(dtype), of_condition, layers.enter_bias)  # (M, hidden, ...)
            hidden = self._run(narrowed(x, dtype), of_x, None)
            hidden = hidden.unflatten(0, (-1, len(shared))).add_(shared).flatten(0, 1)  # (B, hidden, ...)
        hidden = bounded(F.relu_(hidden))
        return self._run(hidden, layers.leave, layers.leave_bias).to(x.dtype)

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel is None:
            return bounded(linear(x, weight, bias))
        return bounded(conv2d(x, weight, bias, padding=self.kernel // 2))


def _layer(inputs: int, outputs: int, kernel: int | None, generator: torch.Generator) -> Any:
    """A layer with torch's usual initial values, drawn from the generator instead of the global one."""
    layer: Any
    if kernel is None:
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    else:
        layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2)
    bound = 1 / math.sqrt(inputs * (kernel or 1) ** 2)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
