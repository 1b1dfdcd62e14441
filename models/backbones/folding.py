"""Batch norms that directly follow a convolution, folded into its weights."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Pair = tuple[str, str]  # the names of a convolution and of its batch norm


class _Uses(TorchDispatchMode):
    """Counts the operations that read the tensors whose ids are in `counts`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and id(value) in self.counts:
                self.counts[id(value)] += 1
        return func(*args, **(kwargs or {}))


def foldable(model: nn.Module, taps: Collection[str | int], run: Callable[[], object]) -> list[Pair]:
    """The convolutions whose result, in one run, nothing but a batch norm reads, each with that norm; a tapped one is none.

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
    >>> foldable(network, (), lambda: network(torch.zeros(1, 3, 4, 4)))
    [('0', '1')]
    """
    producers: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive, because their ids are compared
    pairs: list[tuple[int, Pair]] = []  # with the id of the tensor between them
    calls: dict[str, int] = {}
    uses = _Uses()

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if type(module) in (nn.Conv2d, Conv2dSame) and name not in taps:
                producers[id(output)] = name
                uses.counts[id(output)] = 0
                outputs.append(output)
            elif isinstance(module, nn.BatchNorm2d) and inputs and id(inputs[0]) in producers:
                pairs.append((id(inputs[0]), (producers[id(inputs[0])], name)))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        with uses:
            run()
    finally:
        for handle in handles:
            handle.remove()
    # A layer that runs twice has no single place for the factor; a result that is read twice would change for its other reader.
    return [pair for between, pair in pairs if uses.counts[between] == 1 and all(calls[name] == 1 for name in pair)]


def fold(model: nn.Module, pairs: Sequence[Pair]) -> None:
    """Fold every batch norm into its convolution; an activation that is part of the norm stays in its place.

    Raises AttributeError for a layer that the model lacks, TypeError for one that is none of the two kinds.

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)).eval()
    >>> fold(network, [("0", "1")])
    >>> list(network.state_dict())
    ['0.weight', '0.bias']
    """
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            raise TypeError(f"{conv_name!r} and {norm_name!r} must be a convolution and a batch norm")
        rest = [module for module in (getattr(norm, "drop", None), getattr(norm, "act", None)) if module is not None]
        model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm), strict=True)
        model.set_submodule(norm_name, nn.Sequential(*rest), strict=True)
