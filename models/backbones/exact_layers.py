"""The convolutions of a backbone that stay in float32 while the others run in bf16.

bf16 has eight bits of mantissa. A depthwise filter that takes differences has weights that add up to nearly zero. Rounding
changes that sum, and on a flat surface the resulting share of the brightness is larger than the texture itself. The first
layers carry that texture on the highest mean, and all others read them. On the magnetic tiles MobileNetV1's features were
off by a tenth of their spread with every layer in bf16, and by a fiftieth with these layers in float32.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

FINE = 8  # convolutions that give maps of at most this stride


def keep_float32(network: nn.Module, height: int, width: int) -> None:
    """Make depthwise convolutions, and those whose maps have a stride of at most FINE, ignore autocast.

    Args:
        network: it is run once on a black image of height x width pixels.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.Conv2d(8, 8, 3, stride=4))
    >>> keep_float32(network, height=64, width=64)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     (network[0](torch.zeros(1, 3, 64, 64)).dtype, network(torch.zeros(1, 3, 64, 64)).dtype)
    (torch.float32, torch.bfloat16)
    """
    exact: list[nn.Conv2d] = []

    def look(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        depthwise = module.groups == module.in_channels > 1
        if depthwise or output.shape[-2] * FINE >= height:
            exact.append(module)

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(look) for module in convolutions]
    with torch.no_grad():
        network(torch.zeros(1, 3, height, width))
    for handle in handles:
        handle.remove()
    for module in exact:
        module.forward = MethodType(_in_float32, module)  # type: ignore[method-assign]


def _in_float32(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    with torch.autocast(inputs.device.type, enabled=False):
        return type(module).forward(module, inputs.float())
