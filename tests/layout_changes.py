"""Finds operations that copy a map from one memory layout to another while it is entered."""

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TORCH = str(Path(torch.__file__).parent)


class LayoutChanges(TorchDispatchMode):
    """Records (operation, file:line) where a result in new memory has another innermost axis than a map it was made from.

    A map is a tensor of four axes whose channels, rows and columns number at least two. Views copy nothing and may rename axes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.maps = 0  # results that were maps

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.contiguous.default:  # inference mode does not decompose it
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        memory = {x.untyped_storage()._cdata for x in read}
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.untyped_storage()._cdata not in memory]
        before, after = {_innermost(x) for x in read} - {None}, {_innermost(x) for x in made} - {None}
        self.maps += len(after)
        copied = not func._schema.name.startswith("aten::new_")  # those only take the type and the device
        if copied and before and after and before != after:
            frames = [frame for frame in traceback.extract_stack()[:-1] if not frame.filename.startswith(TORCH)]
            self.found.append(f"{func}: {before} to {after}, {frames[-1].filename}:{frames[-1].lineno}")
        return result


def _innermost(x: Tensor) -> str | None:
    """The axis whose neighbours lie side by side in memory; None if x is no map."""
    if x.ndim != 4 or min(x.shape[1:]) < 2:
        return None
    return "channels" if x.stride(1) == 1 else "columns" if x.stride(3) == 1 else "neither"
