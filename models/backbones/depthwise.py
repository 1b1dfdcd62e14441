"""A depthwise convolution of fp16 maps with float32 weights and float32 sums, its bias and its activation: one operation.

Rounding a depthwise filter that takes differences changes the sum of its weights, and on a flat surface that error is larger
than the texture (exact_layers.py). Its weights are few, so they stay in float32. As separate operations the casts would read
and write each map five times.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from models.faults import ModelError

DEVICE_FAULTS = (torch.OutOfMemoryError, torch.AcceleratorError)  # not of the compiler

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
}


class NoKernel(ModelError):
    """This machine cannot compile or start the kernel of a GPU's depthwise layers."""


def in_float32(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    """The same by casts: what a CPU does.

    >>> x, weight = torch.ones(1, 2, 3, 3).half(), torch.ones(2, 1, 3, 3)
    >>> in_float32(x, weight, None, (1, 1), (0, 0), (1, 1), "none").flatten()
    tensor([9., 9.], dtype=torch.float16)
    """
    wide = F.conv2d(x.float(), weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups=x.shape[1])
    return ACTIVATIONS[activation](wide).to(x.dtype).contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("flowscore::depthwise_conv2d", mutates_args=())
def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    """activation(depthwise convolution + bias), in float32 until the result is rounded.

    Args:
        x: (B, C, H, W), fp16, in channels_last memory.
        weight: (C, 1, kh, kw), float32.
        bias: (C,), float32.
        activation: a key of ACTIVATIONS.
    Returns:
        (B, C, H', W'), fp16, in channels_last memory; it has no gradient.

    >>> x, weight = torch.ones(1, 2, 3, 3).half(), -torch.ones(2, 1, 3, 3)
    >>> depthwise_conv2d(x, weight, None, (1, 1), (1, 1), (1, 1), "relu").amax()
    tensor(0., dtype=torch.float16)
    """
    return in_float32(x, weight, bias, stride, padding, dilation, activation)


@depthwise_conv2d.register_kernel("cuda")
def _on_cuda(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    return _cuda_kernel()(x, weight, bias, stride, padding, dilation, activation)


@cache
def _cuda_kernel() -> Callable[..., Tensor]:
    """The kernel, once it has run on a map of one pixel: Triton compiles what starts it with the machine's C compiler.

    Other arithmetic in its place would give other bits under the same name, so there is none.

    Raises:
        NoKernel: Triton is not there, or fails in one of its many ways (ImportError, CalledProcessError, RuntimeError, ...).
        torch.OutOfMemoryError, torch.AcceleratorError: of the device.
    """
    try:
        from models.backbones.depthwise_kernel import launched

        x, weight = torch.zeros(1, 2, 1, 1, dtype=torch.float16, device="cuda"), torch.zeros(2, 1, 1, 1, device="cuda")
        launched(x, weight, None, (1, 1), (0, 0), (1, 1), "none")
    except DEVICE_FAULTS:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise NoKernel(
            f"fp16 needs Triton and a C compiler on this machine; {reason}. "
            "Train with --precision bf16, or install gcc and the headers of Python."
        ) from error
    return launched


@depthwise_conv2d.register_fake
def _shape_only(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    sides = [out_side(*axis) for axis in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)]
    return x.new_empty(*x.shape[:2], *sides).to(memory_format=torch.channels_last)  # (B, C, H', W')


def out_side(side: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Rows or columns of the result.

    >>> out_side(256, kernel=3, stride=2, padding=1, dilation=1)
    128
    """
    return (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@register_flop_formula(torch.ops.flowscore.depthwise_conv2d)
def _flops(_x: Any, weight: Sequence[int], *_args: Any, out_shape: Any = None, **_kwargs: Any) -> int:
    batch, channels, rows, columns = out_shape
    return 2 * batch * channels * rows * columns * weight[2] * weight[3]
