"""The types in which products are computed: float32, bf16 under autocast, or fp16 storage with float32 sums.

In fp16 a convolution or linear layer reads fp16 activations and fp16 weights, adds up in float32 and rounds its result; a
convolution of more than one pixel rounds again after its bias. A CPU computes the same in float32 and rounds at the same
places; its own fp16 kernels take up to 75 times as long.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_FP16 = 65504.0
LAYER_DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def layer_dtype(precision: str) -> torch.dtype | None:
    """The type of a flow's products in a precision of ArtifactConfig; None is the type of their input.

    >>> layer_dtype("fp16")
    torch.float16
    """
    return LAYER_DTYPES[precision]


def products_in(wanted: torch.dtype | None, given: torch.dtype) -> torch.dtype:
    """The type in which a layer computes now. fp16 is for scores only: a loss that is a mean over a million elements has
    gradients below the least fp16, so layers compute in the type of their input while gradients are recorded.

    >>> products_in(torch.float16, torch.float32)
    torch.float32
    >>> with torch.no_grad():
    ...     products_in(torch.float16, torch.float32)
    torch.float16
    """
    if wanted is None or (wanted is torch.float16 and torch.is_grad_enabled()):
        return given
    return wanted


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, **geometry: Any) -> Tensor:
    """F.conv2d, which in fp16 adds up in float32 on every device.

    A convolution of one pixel is a matrix product, which adds its bias before it rounds. cuDNN adds none, so that a wider one
    rounds, adds the bias and rounds again, and this is done on every device.

    >>> conv2d(torch.ones(1, 4, 2, 2).half(), torch.ones(3, 4, 1, 1).half()).dtype
    torch.float16
    """
    if x.dtype is not torch.float16:
        return F.conv2d(x, weight, bias, **geometry)
    pointwise = _is_pointwise(weight, **geometry)
    if pointwise and not _emulated(x):
        return rowwise(x, weight, bias)
    early, late = (bias, None) if pointwise else (None, bias)
    if _emulated(x):  # a CPU's matrix product would sum an image's last rows in another order than the others
        found = F.conv2d(x.float(), weight.float(), None if early is None else early.float(), **geometry).half()
    else:
        found = F.conv2d(x, weight, **geometry)
    return found if late is None else found.add_(late.view(-1, 1, 1))  # (C, 1, 1)


def rowwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of one pixel as a product of all pixels' rows; no copies where the map is in channels_last memory.

    >>> rowwise(torch.ones(1, 4, 2, 3), torch.ones(5, 4, 1, 1), None).shape
    torch.Size([1, 5, 2, 3])
    """
    return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)  # (B, C', H, W)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear, which in fp16 adds up in float32 on every device, and adds the bias before it rounds. On rows torch does so;
    it might add a bias to the rounded products of more axes.

    >>> linear(torch.ones(2, 4).half(), torch.ones(3, 4).half())[0]
    tensor([4., 4., 4.], dtype=torch.float16)
    """
    if _emulated(x):
        return F.linear(x.float(), weight.float(), None if bias is None else bias.float()).half()
    if x.dtype is torch.float16 and x.ndim > 2:
        return F.linear(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)  # (..., C')
    return F.linear(x, weight, bias)


def narrowed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in the type in which a flow's layer reads it. What fp16 cannot hold becomes its largest value: the state of a strange
    image reaches 1e6, and an infinite one would leave it without a score.

    >>> narrowed(torch.tensor([1e6]), torch.float16), narrowed(torch.tensor([1e6]), torch.float32)
    (tensor([65504.], dtype=torch.float16), tensor([1000000.]))
    """
    return (x.clamp(-LARGEST_FP16, LARGEST_FP16) if dtype is torch.float16 else x).to(dtype)


def bounded(x: Tensor) -> Tensor:
    """A flow's layer's result, changed in place: in fp16 an infinite value becomes the largest one, NaN stays; other types are
    left alone. In place, since a new tensor of a map of one cell forgets which axis lies innermost.

    >>> bounded(torch.tensor([torch.inf, torch.nan]).half())
    tensor([65504.,    nan], dtype=torch.float16)
    """
    return x.clamp_(-LARGEST_FP16, LARGEST_FP16) if x.dtype is torch.float16 else x


def _is_pointwise(weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> bool:
    """dilation: of one pixel it means nothing."""
    return weight.shape[2:] == (1, 1) and groups == 1 and stride in (1, (1, 1)) and padding in (0, (0, 0))


def _emulated(x: Tensor) -> bool:
    return x.dtype is torch.float16 and x.device.type == "cpu"
