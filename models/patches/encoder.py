"""Patch SVDD's encoders of 32 x 32 and 64 x 64 pixel patches, which embed every patch of an image in one pass.

Every convolution is valid, so a patch's embedding depends only on its own pixels, and one pass over the image gives the
same as cutting out patches. With conv1 at stride 2, the activations of patches that start on even pixels share one grid
with a cell every 2 pixels. The convolutions after it have stride 1 there, and the last one is evaluated only at every
(stride / 2)-th cell. A patch of 64 pixels is four of 32 at offsets of 0 and 32 pixels, which are cells of the same grid,
so its encoder reads them by a dilated convolution. For 256 x 256 images at stride 4 this takes 5.1 G multiply-adds;
cutting out the 57 x 57 and 13 x 13 patches would take 92 + 19 G, 22 times more.

Source: Yi and Yoon 2020, Patch SVDD, section 3.3 and figure 5, arXiv:2006.16067; tests/golden/README.md section 6.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.precision import conv2d

SMALL, LARGE = 32, 64  # patch sizes, pixels
LARGE_STRIDE = 16  # between the large patches of an image, pixels
STRIDES = (2, 4, 8, 16)  # between the small ones
EMBEDDING = 64
WIDTHS = (3, 32, 64, 128, 128, 64, 32, 32, EMBEDDING)
LEAKY_SLOPE = 0.1
FIRST_SPREAD = 0.5  # of the embeddings' last layers, so that tanh does not saturate at first


def initialise(module: nn.Module) -> None:
    """Set biases to 0 and weights so that every layer keeps the variance. torch's own weights let it fall by a factor of
    thousands in ten layers, so that embeddings start almost equal. Source: He et al. 2015, equation 10, arXiv:1502.01852.

    >>> encoder = EncoderHier()
    >>> initialise(encoder)
    >>> bool((encoder.join.bias == 0).all())
    True
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, EncoderHier):
            with torch.no_grad():
                layer.deep.convolutions[-1].weight.mul_(FIRST_SPREAD)
                layer.mix.weight.mul_(FIRST_SPREAD)


class EncoderDeep(nn.Module):
    """Encoder of 32 x 32 patches; it does not read their last row and column (the receptive field is 31).

    >>> EncoderDeep()(torch.zeros(1, 3, 40, 48), stride=4).shape
    torch.Size([1, 64, 3, 5])
    """

    convolutions: Sequence[nn.Conv2d]

    def __init__(self) -> None:
        super().__init__()
        layers: Any = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2 if i == 0 else 1)
            for i, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False))
        )
        self.convolutions = layers

    def forward(self, images: Tensor, stride: int = 2) -> Tensor:
        """Embeddings of all 32 x 32 patches that start at multiples of the stride.

        Args:
            images: (B, 3, H, W), float32, H and W at least 32; a patch is (B, 3, 32, 32).
            stride: pixels, even.
        Returns:
            (B, 64, (H - 32) // stride + 1, (W - 32) // stride + 1), float32 between -1 and 1.
        """
        height, width = images.shape[2:]
        x = images[:, :, : height - height % 2, : width - width % 2]  # an odd last line would give cells without a patch
        x = x.to(self.convolutions[0].weight.dtype)  # fp16 weights read fp16 maps
        for layer in self.convolutions[:-1]:
            x = F.leaky_relu(conv2d(x, layer.weight, layer.bias, stride=layer.stride), LEAKY_SLOPE)
        last = self.convolutions[-1]
        return torch.tanh(conv2d(x, last.weight, last.bias, stride=stride // 2).to(images.dtype))


class EncoderHier(nn.Module):
    """Encoder of 64 x 64 patches on the embeddings of their four quadrants.

    >>> small, large = EncoderHier().dense(torch.zeros(1, 3, 80, 64), stride=16)
    >>> small.shape, large.shape
    (torch.Size([1, 64, 4, 3]), torch.Size([1, 64, 2, 1]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.deep = EncoderDeep()
        self.join = nn.Conv2d(EMBEDDING, 2 * EMBEDDING, 2)
        self.mix = nn.Conv2d(2 * EMBEDDING, EMBEDDING, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, 3, 64, 64) float32 to (B, 64, 1, 1) between -1 and 1."""
        count = len(patches)
        quadrants = patches.reshape(count, 3, 2, SMALL, 2, SMALL)  # (B, 3, 2, 32, 2, 32)
        quadrants = quadrants.permute(0, 2, 4, 1, 3, 5).reshape(4 * count, 3, SMALL, SMALL)  # (4 B, 3, 32, 32)
        found = self.deep(quadrants).reshape(count, 2, 2, EMBEDDING)  # (B, 2, 2, 64)
        return self._join(found.permute(0, 3, 1, 2), 1)  # of (B, 64, 2, 2)

    def dense(self, images: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Embeddings of all patches of images.

        Args:
            images: (B, 3, H, W), float32, H and W at least 64.
            stride: between the small patches, one of STRIDES.
        Returns:
            small: (B, 64, (H - 32) // stride + 1, (W - 32) // stride + 1), float32.
            large: (B, 64, (H - 64) // 16 + 1, (W - 64) // 16 + 1), float32.
        """
        small = self.deep(images, stride)
        every = LARGE_STRIDE // stride
        return small, self._join(small[:, :, ::every, ::every], SMALL // LARGE_STRIDE)

    def _join(self, quadrants: Tensor, reach: int) -> Tensor:
        """Join small patches' embeddings to those of large ones; `reach` cells are 32 pixels."""
        x = quadrants.to(self.join.weight.dtype)
        x = F.leaky_relu(conv2d(x, self.join.weight, self.join.bias, dilation=reach), LEAKY_SLOPE)
        return torch.tanh(conv2d(x, self.mix.weight, self.mix.bias).to(quadrants.dtype))
