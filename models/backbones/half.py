"""A backbone in fp16: activations and weights are stored in fp16, sums and depthwise layers are float32.

Weights are rounded when the network is built, and loading rounds into them, so that no call casts them. On the magnetic tiles
MobileNetV1's features are off by 0.7 and 1.0 % of their spread, with the bf16 of exact_layers.py by 1.4 and 2.5 %.
"""

from types import MethodType

import torch
from timm.layers import Conv2dSame, ConvNormAct
from timm.layers.padding import pad_same
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from torch import Tensor, nn

from models.backbones.depthwise import depthwise_conv2d
from models.backbones.exact_layers import is_depthwise
from models.precision import conv2d, linear

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.modules.batchnorm._BatchNorm,)  # their running statistics stay in float32, as CUDA's kernels want
# The layers of timm's blocks that run right after a depthwise convolution, by reading their forward methods.
FOLLOWERS = {DepthwiseSeparableConv: ("conv_dw", "bn1"), InvertedResidual: ("conv_dw", "bn2"), ConvNormAct: ("conv", "bn")}
ACTIVATION_NAMES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SiLU: "silu"}


def compute_in_half(network: nn.Module) -> None:
    """Make the network read and write fp16 maps, in place; names in its state dict stay.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8)).requires_grad_(False)
    >>> compute_in_half(network)
    >>> network(torch.zeros(1, 3, 5, 5).half()).dtype, network[0].weight.dtype, network[1].weight.dtype
    (torch.float16, torch.float16, torch.float32)
    """
    _set_types(network)
    activations = _take_activations(network)
    for module in network.modules():
        if _is_one_operation(module):
            module.activation = activations.get(module, "none")  # type: ignore[assignment]
            module.forward = MethodType(_depthwise, module)
        elif is_depthwise(module):
            module.forward = MethodType(_in_float32, module)
        elif type(module) in CONVOLUTIONS and module.padding_mode == "zeros":
            module.forward = MethodType(_convolution, module)
        elif type(module) is nn.Linear:
            module.forward = MethodType(_linear, module)  # type: ignore[method-assign]


def _set_types(network: nn.Module) -> None:
    """Round the weights to fp16, but those of depthwise layers and batch norms."""
    for module in network.modules():
        exact = is_depthwise(module) or isinstance(module, NORMS)
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(torch.float32 if exact else torch.float16)


def _is_one_operation(module: nn.Module) -> bool:
    """A depthwise layer that depthwise_conv2d can compute: of a kind whose arithmetic is known, and one filter a channel."""
    return (
        is_depthwise(module)
        and isinstance(module, nn.Conv2d)
        and type(module) in CONVOLUTIONS
        and module.in_channels == module.out_channels
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _take_activations(network: nn.Module) -> dict[nn.Module, str]:
    """The activation right after each depthwise layer, where a batch norm between them was folded; it is removed there."""
    found: dict[nn.Module, str] = {}
    for block in network.modules():
        for kind, (name, follower) in FOLLOWERS.items():
            if not isinstance(block, kind):
                continue
            layer, after = getattr(block, name), getattr(block, follower)
            steps = [step for step in after if type(step) is not nn.Identity] if type(after) is nn.Sequential else []
            if _is_one_operation(layer) and len(steps) == 1 and type(steps[0]) in ACTIVATION_NAMES:
                found[layer] = ACTIVATION_NAMES[type(steps[0])]
                setattr(block, follower, nn.Identity())
    return found


def _depthwise(module: nn.Conv2d, x: Tensor) -> Tensor:
    x, padding = _padded(module, x)
    return depthwise_conv2d(x, module.weight, module.bias, module.stride, padding, module.dilation, str(module.activation))


def _in_float32(module: nn.Conv2d, x: Tensor) -> Tensor:
    return type(module).forward(module, x.float()).half()


def _convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    x, padding = _padded(module, x)
    geometry = {"stride": module.stride, "padding": padding, "dilation": module.dilation, "groups": module.groups}
    return conv2d(x, module.weight, module.bias, **geometry)


def _padded(module: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, ...] | str]:
    """The map and the padding that remains to be done. A Conv2dSame pads more on one side by itself."""
    if not isinstance(module, Conv2dSame):
        return x, module.padding
    return pad_same(x, list(module.weight.shape[-2:]), list(module.stride), list(module.dilation)), (0, 0)


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)
