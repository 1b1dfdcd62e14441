"""A CUDA device that computes only shapes, for machines without a GPU. It finds what a stream would have to wait for.

Tensors on it have no values (torch's FakeTensor). Asking for a value, or for a number of values, raises; copies between host
and device are recorded. A CUDA graph can hold neither.
"""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TORCH = str(Path(torch.__file__).parent)


class Crossings(TorchDispatchMode):
    """Records the places (file:line) where a tensor was made from one on the other side, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = ({x.device.type for x in tree_leaves(tree) if isinstance(x, Tensor)} for tree in ((args, kwargs), result))
        if made and given and made != given:
            frames = [frame for frame in traceback.extract_stack()[:-1] if not frame.filename.startswith(TORCH)]
            self.found.append(f"{frames[-1].filename}:{frames[-1].lineno}")
        return result


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Tensors made or moved inside the block live on this device only."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
