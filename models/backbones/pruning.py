"""Leaves out the layers of a network that its taps do not depend on."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from models.maps.grids import Maps

# What a network raises when a layer that it asks for something, indexes or unpacks is not of its class any more.
MISSED = (RuntimeError, TypeError, AttributeError, IndexError, KeyError, ValueError, AssertionError)


def unused_layers(network: nn.Module, model: nn.Module, images: Tensor) -> list[str]:
    """The outermost layers of the model none of whose parameters a map depends on, in the model's order.

    Args:
        network: gives the maps, and runs the model for it.
        images: (B, 3, H, W), normalised; small ones suffice and take less memory.

    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1))
    >>> unused_layers(lambda images: [network[0](images)], network, torch.zeros(1, 3, 4, 4))
    ['1']
    """
    parameters = list(model.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            total = [x.sum() for x in network(images)]
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    finally:
        for parameter, before in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(before)
    used = {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    found: list[str] = []
    for name, module in model.named_modules():
        inside = found and name.startswith(f"{found[-1]}.")
        own = list(module.parameters())
        if name and own and not inside and not any(id(p) in used for p in own):
            found.append(name)
    return found


def prune(model: nn.Module, names: Iterable[str]) -> None:
    """Replace the layers by nothing. Raises AttributeError for a layer that the model lacks.

    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1))
    >>> prune(network, ["1"])
    >>> list(network.state_dict())
    ['0.weight', '0.bias']
    """
    for name in names:
        model.set_submodule(name, nn.Identity(), strict=True)


def prune_what_may_go(model: nn.Module, names: Sequence[str], run: Callable[[], Maps]) -> list[str]:
    """Prune as many of the layers as leave the maps bit for bit what they are, and return their names.

    Some networks read a layer's class, length or attributes in their forward pass although no map depends on its weights, as
    HRNet does. Such layers stay. They are found by halving, so that a network without any takes one forward pass.

    >>> network = nn.ModuleList([nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)])
    >>> run = lambda: [torch.ones(network[1].out_channels)]
    >>> prune_what_may_go(network, ["1", "2"], run)
    ['2']
    """
    return _pruned(model, list(names), run, run()) if names else []


def _pruned(model: nn.Module, names: list[str], run: Callable[[], Maps], wanted: Maps) -> list[str]:
    layers = [model.get_submodule(name) for name in names]
    prune(model, names)
    try:
        if all(torch.equal(a, b) for a, b in zip(wanted, run(), strict=True)):
            return names
    except MISSED:
        pass
    for name, layer in zip(names, layers, strict=True):
        model.set_submodule(name, layer, strict=True)
    if len(names) == 1:
        return []
    half = len(names) // 2
    return _pruned(model, names[:half], run, wanted) + _pruned(model, names[half:], run, wanted)
