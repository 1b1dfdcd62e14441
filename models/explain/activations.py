"""Prepares a network's activations for Guided Backpropagation: each rectifier becomes a module called from one place."""

from collections import Counter
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.faults import ModelError

ACTIVATION_PACKAGES = ("torch.nn.modules.activation", "timm.layers.activations")
# Gates and weights of sums rather than rectifiers: Guided Backpropagation leaves their gradients as they are.
PASSED_BY = {"Sigmoid", "Hardsigmoid", "HardSigmoid", "Tanh", "Softmax", "MultiheadAttention"}
RECTIFIED = "ReluBackward"
FUNCTIONS = {  # autograd's nodes of activations that were called as functions
    **{"Silu": "SiLU", "Gelu": "GELU", "Hardswish": "Hardswish", "LeakyRelu": "LeakyReLU", "Elu": "ELU", "Mish": "Mish"},
    **{"Hardtanh": "ReLU6", "PreluKernel": "PReLU", "Softplus": "Softplus"},
}
ALTERNATIVE = "Use gradient or grad_cam, which any backbone allows"


class NotGuided(ModelError):
    """Guided Backpropagation has no definition for this network; the message names the activation."""


class OwnTensor(nn.Module):
    """A view that only the following rectifier reads: captum clips the gradient of a rectifier's input, which would
    otherwise hold the gradients of a skip connection as well.

    >>> import torch
    >>> x = torch.ones(2)
    >>> OwnTensor()(x) is x, torch.equal(OwnTensor()(x), x)
    (False, True)
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x)


class UpperLimit(nn.Module):
    """min(x, limit).

    >>> import torch
    >>> UpperLimit(6.0)(torch.tensor([5.0, 7.0]))
    tensor([5., 6.])
    """

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=self.limit)


class PlainRectifier(nn.Module):
    """max(x, 0) with its own gradient; it is not an nn.ReLU, so captum leaves it unchanged.

    >>> import torch
    >>> PlainRectifier()(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def separate_rectifiers(model: nn.Module) -> None:
    """Replace every ReLU or ReLU6 in the model, in place, by modules of its own that overwrite nothing.

    The outputs stay equal; a ReLU6 becomes a ReLU and an upper limit.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6())
    >>> separate_rectifiers(model)
    >>> [type(part).__name__ for part in model[1]]
    ['OwnTensor', 'ReLU', 'UpperLimit']
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU):
            model.set_submodule(name, nn.Sequential(OwnTensor(), nn.ReLU()))
        elif isinstance(module, nn.ReLU6):
            model.set_submodule(name, nn.Sequential(OwnTensor(), nn.ReLU(), UpperLimit(6.0)))


def guide_only(model: nn.Module, part: nn.Module, inputs: Tensor) -> None:
    """Keep nn.ReLU modules, after separate_rectifiers, only where the part of the model calls them; others become plain.

    Args:
        part: a module that the model calls and that gives a map or a list of maps.
        inputs: of the model, requiring gradients.
    Raises:
        NotGuided: the part calls an activation that has no guided gradient, or a rectifier as a function.

    >>> import torch
    >>> model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Flatten(), nn.ReLU())
    >>> guide_only(model, part=model[0], inputs=torch.ones(1, 3, 2, 2, requires_grad=True))
    >>> type(model[0][1]).__name__, type(model[2]).__name__
    ('ReLU', 'PlainRectifier')
    """
    called: Counter[nn.Module] = Counter()
    maps: list[Tensor] = []
    inside = False

    def enter(_module: nn.Module, _inputs: Any) -> None:
        nonlocal inside
        inside = True

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal inside
        inside = False
        maps.extend(output if isinstance(output, list | tuple) else [output])

    def count(module: nn.Module, _inputs: Any, _output: Any) -> None:
        called[module] += inside

    handles = [module.register_forward_hook(count) for module in model.modules() if module is not part]
    handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    called = +called  # drops those that ran only outside
    for module in called:
        kind = type(module)
        if kind.__module__.startswith(ACTIVATION_PACKAGES) and kind is not nn.ReLU and kind.__name__ not in PASSED_BY:
            raise NotGuided(_refusal(kind.__name__))
    modules = sum(count for module, count in called.items() if isinstance(module, nn.ReLU))
    nodes = _graph_nodes(maps)
    for node, name in FUNCTIONS.items():
        if any(found.startswith(f"{node}Backward") for found in nodes):
            raise NotGuided(_refusal(name))
    rectified = sum(count for found, count in nodes.items() if found.startswith(RECTIFIED))
    if rectified > modules or not rectified:
        raise NotGuided(
            "backbone must call its ReLUs as modules for Guided Backpropagation; "
            f"got {rectified} ReLUs, of which {modules} are modules. {ALTERNATIVE}."
        )
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU) and module not in called:
            model.set_submodule(name, PlainRectifier())


def _refusal(activation: str) -> str:
    return (
        "backbone must have ReLU or ReLU6 as its only activations for Guided Backpropagation, which is not defined for "
        f"others; got {activation}. {ALTERNATIVE}, or a backbone with ReLUs."
    )


def _graph_nodes(maps: list[Tensor]) -> Counter[str]:
    """The number of nodes of each kind in the autograd graph of the maps."""
    found: Counter[str] = Counter()
    seen, waiting = set(), [x.grad_fn for x in maps if x.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        found[node.name()] += 1
        waiting += [before for before, _ in node.next_functions if before is not None]
    return found
