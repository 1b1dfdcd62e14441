"""Affine coupling with a soft clamp, and the fixed channel permutations between couplings (CS-Flow, DifferNet)."""

import numpy as np
import torch
from torch import Tensor

# This is the authors' literal, near 2 / pi; the published model computes with it.
CLAMP_CONSTANT = 0.636
STATE_LIMIT = 1e6


def legacy_permutations(block: int, channels: int, scales: int) -> np.ndarray:
    """Channel orders of one block, drawn by numpy's legacy generator with the block's index as its seed.

    Returns:
        (scales, channels) int64; y[:, i] = x[:, order[i]]. Every scale has its own order.
    Source: tests/golden/README.md section 1 (CS-Flow 88a13b8b, PermuteLayer).

    >>> legacy_permutations(block=0, channels=4, scales=2)
    array([[2, 3, 1, 0],
           [0, 2, 1, 3]])
    """
    generator = np.random.RandomState(block)
    return np.stack([generator.permutation(channels) for _ in range(scales)]).astype(np.int64)


def soft_clamp(raw_log_scale: Tensor, clamp: float) -> Tensor:
    """clamp * 0.636 * atan(s / clamp): it is about s near 0 and bounded by +-0.999 clamp. clamp <= 0 leaves s unchanged.

    >>> soft_clamp(torch.tensor([-1e6, 0.0, 1e6]), clamp=3.0)
    tensor([-2.9971,  0.0000,  2.9971])
    """
    if clamp <= 0:
        return raw_log_scale
    return torch.atan(raw_log_scale / clamp) * (clamp * CLAMP_CONSTANT)


def couple(part: Tensor, subnet_output: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """One affine step, x -> z.

    Args:
        part: the half that changes, (B, C, ...).
        subnet_output: (B, 2C, ...), first half raw log-scale s, second half shift t; same dtype as part.
    Returns:
        exp(L) * part + t, limited to +-1e6, and L (both (B, C, ...)); L sums to this step's log|det|.
    Source: Dinh et al. 2016, Real NVP, eq. 8, arXiv:1605.08803; clamp from CS-Flow.

    >>> part, subnet_output = torch.tensor([[1.0]]), torch.tensor([[0.0, 2.0]])  # log-scale 0, shift 2
    >>> couple(part, subnet_output, clamp=3.0)
    (tensor([[3.]]), tensor([[0.]]))
    """
    channels = part.shape[1]
    log_scale = soft_clamp(subnet_output[:, :channels], clamp)
    changed = torch.addcmul(subnet_output[:, channels:], part, log_scale.exp())
    return changed.clamp(-STATE_LIMIT, STATE_LIMIT), log_scale


def uncouple(part: Tensor, subnet_output: Tensor, clamp: float) -> Tensor:
    """The inverse of couple for the same subnet_output (exact wherever the +-1e6 limit was not reached).

    >>> uncouple(torch.tensor([[3.0]]), torch.tensor([[0.0, 2.0]]), clamp=3.0)
    tensor([[1.]])
    """
    channels = part.shape[1]
    log_scale = soft_clamp(subnet_output[:, :channels], clamp)
    return (part - subnet_output[:, channels:]) * torch.exp(-log_scale)
