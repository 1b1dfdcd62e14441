"""The training loss, image scores and anomaly map that a flow's latents give."""

import math

import torch
from torch import Tensor

from models.maps.grids import Maps


def elements(maps: Maps) -> int:
    """D, the number of latent elements of one image over all scales.

    >>> elements([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)])
    60
    """
    return sum(math.prod(z.shape[1:]) for z in maps)


def energy(latents: Maps) -> Tensor:
    """Sum of z^2 per image and scale, (B, scales).

    >>> energy([torch.ones(2, 3, 4, 4), torch.ones(2, 3, 2, 2)])
    tensor([[48., 12.],
            [48., 12.]])
    """
    return torch.stack([z.square().sum(dim=(1, 2, 3)) for z in latents], 1)


def nll_loss(latents: Maps, log_det_jac: Tensor) -> Tensor:
    """Negative log-likelihood under a standard normal base, up to its constant, per latent element; the training loss.

    Args:
        latents: z per scale, (B, C, H_i, W_i).
        log_det_jac: log|det dz/dx| per scale, (B, scales), nats.
    Returns:
        a scalar, nats per element, the mean over the batch.
    Source: Rudolph et al. 2021, eq. 3, arXiv:2110.02855.

    >>> nll_loss([torch.ones(2, 3, 4, 4)], log_det_jac=torch.full((2, 1), 12.0))
    tensor(0.2500)
    """
    return (0.5 * energy(latents) - log_det_jac).sum(1).mean() / elements(latents)


def mean_score(latents: Maps) -> Tensor:
    """Mean of z^2 / 2 over all elements of all scales, (B,). Scale 0 of three has the weight 16/21.

    >>> mean_score([torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)])
    tensor([0.2500, 0.2500])
    """
    return energy(latents).sum(1) / (2 * elements(latents))


def scale_means(latents: Maps) -> Tensor:
    """m_s, the mean of z^2 / 2 of every scale, (B, scales).

    >>> scale_means([torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)])
    tensor([[0.5000, 0.0000],
            [0.5000, 0.0000]])
    """
    means = [e / (2 * math.prod(z.shape[1:])) for e, z in zip(energy(latents).unbind(1), latents, strict=True)]
    return torch.stack(means, 1)  # (B, scales)


def nll_cells(latents: Tensor, log_det_jac: Tensor) -> Tensor:
    """Negative log-likelihood of every cell under a standard normal base, per channel and up to its constant.

    Affine couplings shrink what they have not seen, so that z^2 alone misses it; the log-determinant says that they did.

    Args:
        latents: z, (B, C, ...).
        log_det_jac: what the cell adds to log|det dz/dx|, (B, ...), nats.
    Returns:
        (B, ...), nats per channel, negative where a cell is likely; higher is more anomalous.
    Source: Dinh et al. 2016, Real NVP, eq. 3, arXiv:1605.08803, with the determinant's factors cell by cell.

    >>> nll_cells(torch.full((1, 3, 1, 2), 2.0), log_det_jac=torch.tensor([[[0.0, 6.0]]]))
    tensor([[[2., 0.]]])
    """
    return 0.5 * latents.square().mean(1) - log_det_jac / latents.shape[1]


def energy_cells(latents: Maps) -> Tensor:
    """Channel mean of z^2 at scale 0, (B, H_0, W_0).

    >>> energy_cells([torch.full((1, 3, 2, 2), 2.0), torch.zeros(1, 3, 1, 1)])
    tensor([[[4., 4.],
             [4., 4.]]])
    """
    return latents[0].square().mean(dim=1)
