"""The convolutions of a backbone that stay in float32 while the others run in bf16.

bf16 has eight bits of mantissa. A depthwise filter that takes differences has weights that add up to nearly zero. Rounding
changes that sum, and on a flat surface the resulting share of the brightness is larger than the texture itself. The first
layers carry that texture on the highest mean, and all others read them. On the magnetic tiles MobileNetV1's features were
off by a tenth of their spread with every layer in bf16, and by a fiftieth with these layers in float32.
"""

from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

FINE = 8  # convolutions that give maps of at most this stride


def is_depthwise(module: nn.Module) -> bool:
    """A convolution of which every filter reads one channel.

    >>> is_depthwise(nn.Conv2d(8, 16, 3, groups=8)), is_depthwise(nn.Conv2d(8, 8, 3, groups=4))
    (True, False)
    """
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def exact_layers(network: nn.Module, model: nn.Module, height: int, width: int) -> list[str]:
    """The names of the model's depthwise convolutions and of those whose maps have a stride of at most FINE.

    Args:
        network: runs the model once on a black image of height x width pixels; it may be the model itself.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.Conv2d(8, 8, 3, stride=4))
    >>> exact_layers(network, network, height=64, width=64)
    ['0']
    """
    exact: dict[str, None] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if is_depthwise(module) or output.shape[-2] * FINE >= height:
                exact[name] = None

        return look

    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(watch(name)) for name, module in convolutions]
    with torch.no_grad():
        network(torch.zeros(1, 3, height, width))
    for handle in handles:
        handle.remove()
    return list(exact)


def keep_float32(model: nn.Module, names: Iterable[str]) -> None:
    """Make these convolutions of the model ignore autocast.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.Conv2d(8, 8, 3, stride=4))
    >>> keep_float32(network, ["0"])
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     (network[0](torch.zeros(1, 3, 64, 64)).dtype, network(torch.zeros(1, 3, 64, 64)).dtype)
    (torch.float32, torch.bfloat16)
    """
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Conv2d):
            raise ValueError(f"float32 must name convolutions of the backbone; got {name!r}. Build the model again.")
        module.forward = MethodType(_in_float32, module)  # type: ignore[method-assign]


def _in_float32(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    with torch.autocast(inputs.device.type, enabled=False):
        return type(module).forward(module, inputs.float())
