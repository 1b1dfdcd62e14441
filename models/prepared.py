"""Modules that keep their weights a second time, prepared for scoring by `freeze`."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class Prepared(nn.Module):
    """Forgets what `freeze` prepared when other weights are loaded or the module moves; `freeze` makes it anew.

    Until then it computes from the weights themselves, so results are right, only slower.

    >>> class Doubled(Prepared):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.ones(1))
    ...         self.frozen = 2 * self.weight
    >>> import torch
    >>> doubled = Doubled()
    >>> _ = doubled.load_state_dict({"weight": torch.zeros(1)})
    >>> doubled.frozen is None
    True
    """

    frozen: Any

    def forget(self) -> None:
        """Drop what was prepared."""
        self.frozen = None

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.forget()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.forget()
        return super()._apply(fn, recurse)
