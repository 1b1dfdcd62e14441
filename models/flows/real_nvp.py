"""RealNVP on feature vectors: DifferNet's couplings with fully connected sub-networks.

Source: Rudolph et al. 2021, Same Same But DifferNet, arXiv:2008.12577; exact semantics in tests/golden/README.md section 2. The
original's inverse returns the log-determinant of the forward direction; this one returns none.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.flows.coupling import couple, legacy_permutations, uncouple
from models.precision import bounded, linear, narrowed, products_in
from models.prepared import Prepared


class FullyConnected(Prepared):
    """Sub-network of one half-step: four linear layers with ReLU between them.

    Matrix products run in matmul_dtype if it is set (bf16, and fp16 without gradients), else in the dtype of their input; the
    result always has the input's dtype.

    >>> FullyConnected(in_features=4, out_features=6, hidden=8)(torch.ones(2, 4)).shape
    torch.Size([2, 6])
    """

    layers: Sequence[nn.Linear]

    def __init__(self, in_features: int, out_features: int, hidden: int):
        super().__init__()
        sizes = [(in_features, hidden), (hidden, hidden), (hidden, hidden), (hidden, out_features)]
        layers: Any = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in sizes)
        self.layers = layers
        # An untrained flow only permutes, whatever the features.
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.matmul_dtype: torch.dtype | None = None
        self.frozen: list[tuple[Tensor, Tensor]] | None = None

    def freeze(self) -> None:
        with torch.no_grad():
            self.frozen = self._weights(self.matmul_dtype or self.layers[0].weight.dtype)

    def _weights(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        return [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in self.layers]

    def forward(self, features: Tensor) -> Tensor:
        """(N, F_in) to (N, F_out)."""
        dtype = products_in(self.matmul_dtype, features.dtype)
        x = narrowed(features, dtype)
        weights = self.frozen if self.frozen and self.frozen[0][0].dtype == dtype else self._weights(dtype)
        for i, (weight, bias) in enumerate(weights):
            x = bounded(linear(x if i == 0 else F.relu(x), weight, bias))
        return x.to(features.dtype)


class VectorCoupling(nn.Module):
    """One block: permute the features, then change the first half given the second, and vice versa.

    >>> block = VectorCoupling(index=0, features=5, hidden=8, clamp=3.0)
    >>> x = torch.arange(5.0)[None]
    >>> block.inverse(block.couple(block.permute(x))[0]).detach()
    tensor([[0., 1., 2., 3., 4.]])
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(self, index: int, features: int, hidden: int, clamp: float):
        super().__init__()
        self.first = features // 2  # the second half has the odd feature
        self.clamp = clamp
        order = torch.from_numpy(legacy_permutations(index, features, scales=1)[0])
        self.register_buffer("permutation", order)
        self.register_buffer("inverse_permutation", order.argsort(), persistent=False)
        second = features - self.first
        self.second_to_first = FullyConnected(second, 2 * self.first, hidden)
        self.first_to_second = FullyConnected(self.first, 2 * second, hidden)

    def permute(self, features: Tensor) -> Tensor:
        return features.index_select(1, self.permutation)

    def couple(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the changed (N, F) and the log-scales of both half-steps."""
        first, second = features[:, : self.first], features[:, self.first :]
        first, first_log_scale = couple(first, self.second_to_first(second), self.clamp)
        second, second_log_scale = couple(second, self.first_to_second(first), self.clamp)
        return torch.cat([first, second], 1), [first_log_scale, second_log_scale]

    def inverse(self, features: Tensor) -> Tensor:
        first, second = features[:, : self.first], features[:, self.first :]
        second = uncouple(second, self.first_to_second(first), self.clamp)
        first = uncouple(first, self.second_to_first(second), self.clamp)
        return torch.cat([first, second], 1).index_select(1, self.inverse_permutation)


class RealNvp(nn.Module):
    """Invertible map of feature vectors (N, F), F >= 2, to latents of their shape.

    >>> flow = RealNvp(features=6, blocks=4, hidden=8)
    >>> latents, log_det_jac = flow(torch.randn(10, 6))
    >>> latents.shape, log_det_jac.shape
    (torch.Size([10, 6]), torch.Size([10]))
    """

    blocks: Sequence[VectorCoupling]

    def __init__(self, features: int, blocks: int, hidden: int, clamp: float = 3.0):
        super().__init__()
        modules: Any = nn.ModuleList(VectorCoupling(index, features, hidden, clamp) for index in range(blocks))
        self.blocks = modules

    def set_matmul_dtype(self, dtype: torch.dtype | None) -> None:
        """Run matrix products in this dtype; the coupling state, exp and sums keep the dtype of the input and parameters."""
        for module in self.modules():
            if isinstance(module, FullyConnected):
                module.matmul_dtype = dtype

    def freeze(self) -> None:
        """Prepare the products' weights until others are loaded or the module moves; changes in place are not seen."""
        for module in self.modules():
            if isinstance(module, FullyConnected):
                module.freeze()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z, (N, F), and log|det dz/dx|, (N,), nats. Source: Dinh et al. 2016, eq. 6 and 8, arXiv:1605.08803."""
        x = features
        log_det_jac = x.new_zeros(len(x))
        for block in self.blocks:
            x, log_scales = block.couple(block.permute(x))
            for log_scale in log_scales:
                log_det_jac = log_det_jac + log_scale.sum(1)
        return x, log_det_jac

    def latents(self, features: Tensor) -> Tensor:
        """Latents without the log-determinant."""
        x = features
        for block in self.blocks:
            x, _ = block.couple(block.permute(x))
        return x

    def inverse(self, latents: Tensor) -> Tensor:
        """Features x, (N, F), from latents z."""
        x = latents
        for block in reversed(self.blocks):
            x = block.inverse(x)
        return x
