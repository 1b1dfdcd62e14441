"""The depthwise convolution of depthwise.py as one Triton kernel. Only CUDA devices import this file.

A program computes PIXELS x CHANNELS results: channels lie side by side in memory, so every load is one run of them, and the
taps of neighbouring pixels come from the cache. Nothing depends on other images of the batch, and sums have one order.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.backbones.depthwise import out_side

PIXELS, CHANNELS = 32, 64


# Triton would otherwise compile it anew for every mix of sizes that are multiples of 16, or 1, and those that are not.
@triton.jit(do_not_specialize=["pixels", "height", "width", "out_height", "out_width"])
def _depthwise(  # type: ignore[no-untyped-def]
    x,
    weight,
    bias,
    out,
    pixels,  # of all results, B * H' * W'
    channels,
    height,
    width,
    out_height,
    out_width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    PADDING_Y: tl.constexpr,
    PADDING_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    of = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = at < pixels
    known = of < channels
    column = at % out_width * STRIDE_X - PADDING_X
    row = at // out_width % out_height * STRIDE_Y - PADDING_Y
    image = at // (out_width * out_height)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for i in tl.static_range(ROWS):
        for j in tl.static_range(COLUMNS):
            y = row + i * DILATION_Y
            z = column + j * DILATION_X
            there = inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
            place = ((image * height + y) * width + z) * channels
            values = tl.load(x + place[:, None] + of[None, :], mask=there[:, None] & known[None, :], other=0.0)
            factors = tl.load(weight + of * (ROWS * COLUMNS) + (i * COLUMNS + j), mask=known, other=0.0)
            total += values.to(tl.float32) * factors[None, :]
    if HAS_BIAS:
        total += tl.load(bias + of, mask=known, other=0.0)[None, :]
    if ACTIVATION == "relu":
        total = tl.where(total < 0, 0.0, total)  # keeps NaN, which a maximum would drop
    elif ACTIVATION == "relu6":
        total = tl.where(total < 0, 0.0, tl.where(total > 6, 6.0, total))
    elif ACTIVATION == "silu":
        total = total / (1 + tl.exp(-total))
    tl.store(out + at[:, None] * channels + of[None, :], total.to(tl.float16), mask=inside[:, None] & known[None, :])


def launched(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    """models.backbones.depthwise.depthwise_conv2d by this kernel.

    >>> x, weight = torch.ones(1, 2, 3, 3).half(), torch.ones(2, 1, 3, 3)
    >>> if torch.cuda.is_available():
    ...     assert launched(x.cuda(), weight.cuda(), None, (1, 1), (0, 0), (1, 1), "none").flatten().tolist() == [9.0, 9.0]
    """
    x = x.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous()
    batch, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    sides = zip((height, width), (rows, columns), stride, padding, dilation, strict=True)
    out_height, out_width = (out_side(*axis) for axis in sides)
    out = x.new_empty(batch, out_height, out_width, channels).permute(0, 3, 1, 2)  # (B, C, H', W')
    pixels = batch * out_height * out_width
    grid: Any = (triton.cdiv(pixels, PIXELS), triton.cdiv(channels, CHANNELS))
    _depthwise[grid](
        x,
        weight,
        weight if bias is None else bias,
        out,
        pixels,
        channels,
        height,
        width,
        out_height,
        out_width,
        ROWS=rows,
        COLUMNS=columns,
        STRIDE_Y=stride[0],
        STRIDE_X=stride[1],
        PADDING_Y=padding[0],
        PADDING_X=padding[1],
        DILATION_Y=dilation[0],
        DILATION_X=dilation[1],
        ACTIVATION=activation,
        HAS_BIAS=bias is not None,
        PIXELS=PIXELS,
        CHANNELS=CHANNELS,
    )
    return out
