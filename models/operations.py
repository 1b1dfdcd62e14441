"""A count of a computation's floating point operations by type, and of the bytes that its operations read and write."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class OperationCount(TorchDispatchMode):
    """Counts while it is entered, on any device.

    flops: of convolutions and matrix products by the widest type of their operands ("bfloat16"); a multiplication and an
        addition count as two. Everything else in a network takes a few operations per byte and shows in `bytes`.
    bytes: every operation's inputs and outputs count once, as if nothing were cached or fused; views are free.

    >>> with OperationCount() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> dict(counted.flops)
    {'float32': 48}
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a question about a tensor without values, no operation
            return func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is None and func._can_decompose():  # inference mode does not decompose conv2d
            with self:
                return func.decompose(*args, **kwargs)
        found = func(*args, **kwargs)
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        written = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        if count is not None:
            widest = max((x.dtype for x in read), key=lambda dtype: dtype.itemsize)
            self.flops[str(widest).removeprefix("torch.")] += count(*args, **kwargs, out_val=found)
        # The identity of a storage, because tensors without values (meta, fake) have no address.
        memory = {x.untyped_storage()._cdata for x in read}
        if any(x.untyped_storage()._cdata not in memory for x in written) or func._schema.is_mutable:
            self.bytes += sum(x.numel() * x.element_size() for x in (*read, *written))
        return found


def count(computation: Any) -> OperationCount:
    """Run the computation, a function of nothing, and count it.

    >>> count(lambda: torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 1, 1))).flops["float32"]
    1536
    """
    with torch.no_grad(), OperationCount() as counted:
        computation()
    return counted
