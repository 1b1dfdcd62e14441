"""PCA whitening of backbone features: an affine first layer of the flow, fitted in closed form, one per scale.

z = diag(max(lambda, floor))^-1/2 U_k' (x - mean) / std. The flow's density is of the k rotated coordinates
U_k' (x - mean) / std, so log|det| = -1/2 sum_i log max(lambda_i, floor) per cell.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.detector import Features

Maps = list[Tensor]


class Moments:
    """Mean and covariance of one scale's feature vectors in one pass over the images, in float64."""

    def __init__(self, channels: int):
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.scatter = torch.zeros(channels, channels, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add the cells of (B, C, H, W). Source: Chan, Golub & LeVeque 1979, pairwise update."""
        cells = features.detach().permute(0, 2, 3, 1).reshape(-1, features.shape[1])  # (B * H * W, C)
        cells = cells.to("cpu", torch.float64)
        if not bool(torch.isfinite(cells).all()):
            raise ValueError(
                "features must be finite; got NaN or infinity. Check the backbone's weights, or use precision float32."
            )
        count = len(cells)
        mean = cells.mean(0)
        centred = cells - mean
        shift = mean - self.mean
        total = self.count + count
        self.scatter += centred.T @ centred + torch.outer(shift, shift) * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    def covariance(self) -> Tensor:
        """(C, C), float64, unbiased."""
        if self.count < 2:
            raise ValueError(f"features must have at least 2 cells to whiten; got {self.count}. Add training images.")
        return self.scatter / (self.count - 1)


def moments_of(features: Features, positions: Tensor, size: int = 32) -> list[Moments]:
    """Moments of every level over the images at the positions (N,), int64."""
    if not len(positions):
        raise ValueError("training images must be at least 1; got 0. Check --input, --exclude and the shares.")
    moments: list[Moments] = []
    for batch in positions.split(size):
        maps = features.read(batch)
        moments = moments or [Moments(x.shape[1]) for x in maps]
        for moment, x in zip(moments, maps, strict=True):
            moment.update(x)
    return moments


class Whitening(nn.Module):
    """Standardise, rotate to principal components, keep k of them and scale each to variance 1, per scale."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    eigenvalues: Tensor
    residual_variance: Tensor

    def __init__(self, scales: int, channels: int, dims: int):
        super().__init__()
        if not 1 <= dims <= channels:
            raise ValueError(f"whiten_dims must be 1 to {channels}, the channels of the taps; got {dims}. Lower it.")
        # The affine map folded into one 1x1 convolution per scale, z = weight x + bias.
        self.register_buffer("weight", torch.zeros(scales, dims, channels))
        self.register_buffer("bias", torch.zeros(scales, dims))
        # What the densities need; float64, because log-determinants are sums over every cell.
        self.register_buffer("mean", torch.zeros(scales, channels, dtype=torch.float64))
        self.register_buffer("std", torch.ones(scales, channels, dtype=torch.float64))
        self.register_buffer("eigenvalues", torch.ones(scales, dims, dtype=torch.float64))  # after the floor
        self.register_buffer("residual_variance", torch.ones(scales, dtype=torch.float64))  # tau^2

    def fit(self, moments: list[Moments], floor: float = 1e-3) -> None:
        """Set every scale from its moments.

        Args:
            floor: least eigenvalue of the standardised covariance (mean variance 1) that is divided by.
        """
        dims = self.weight.shape[1]
        for s, moment in enumerate(moments):
            covariance = moment.covariance()
            std = covariance.diagonal().clamp_min(0).sqrt()
            std = torch.where(std > 1e-6 * std.max(), std, 1.0)  # a channel that never fires on good images stays raw
            values, vectors = torch.linalg.eigh(covariance / torch.outer(std, std))
            values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)  # largest first; columns are eigenvectors
            # LAPACK leaves the signs open: make the entry of largest magnitude positive.
            largest = vectors.abs().argmax(0, keepdim=True)
            vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
            kept = values[:dims].clamp_min(floor)
            weight = vectors[:, :dims].T / kept.sqrt()[:, None] / std  # (k, C)
            self.mean[s], self.std[s], self.eigenvalues[s] = moment.mean, std, kept
            self.residual_variance[s] = values[dims:].mean().clamp_min(floor) if len(values) > dims else 1.0
            self.weight[s], self.bias[s] = weight, -(weight @ moment.mean)

    def forward(self, maps: Maps) -> Maps:
        """(B, C, H_i, W_i) per scale to whitened (B, k, H_i, W_i) of the weight's dtype (float32)."""
        return [
            F.conv2d(x.to(weight.dtype), weight[:, :, None, None], bias)
            for x, weight, bias in zip(maps, self.weight, self.bias, strict=True)
        ]

    def log_det_jac(self, maps: Maps) -> Tensor:
        """log|det| of the map from the rotated coordinates, (scales,), nats per image, the same for every image."""
        cells = torch.tensor([math.prod(x.shape[-2:]) for x in maps], dtype=torch.float64)
        return -0.5 * self.eigenvalues.log().sum(1) * cells.to(self.eigenvalues.device)

    def residual_energy(self, maps: Maps, whitened: Maps) -> Maps:
        """|r|^2 / tau^2 per cell, (B, H_i, W_i): what the k components leave out, about C - k for good images.

        r = U_perp' (x - mean) / std, tau^2 the mean of the left-out eigenvalues (Tipping & Bishop 1999, probabilistic
        PCA). Its squared length is |(x - mean) / std|^2 less that of the kept coordinates.
        """
        energies = []
        for s, (x, z) in enumerate(zip(maps, whitened, strict=True)):
            shape = (1, -1, 1, 1)
            standard = (x.double() - self.mean[s].view(shape)) / self.std[s].view(shape)
            kept = (z.double().square() * self.eigenvalues[s].view(shape)).sum(1)
            energies.append(((standard.square().sum(1) - kept).clamp_min(0) / self.residual_variance[s]).to(z.dtype))
        return energies

    def full_space_log_prob(self, maps: Maps, whitened: Maps) -> Tensor:
        """What to add to the flow's log-density of the k coordinates for one of all C channels, (B, scales), nats.

        The left-out subspace is an isotropic Gaussian of variance tau^2; the standardisation adds -sum log std.
        """
        dims, channels = self.weight.shape[1:]
        energies = self.residual_energy(maps, whitened)
        squared = torch.stack([e.double().sum(dim=(1, 2)) for e in energies], 1)
        cells = torch.tensor([math.prod(x.shape[-2:]) for x in maps], dtype=torch.float64).to(squared.device)
        constant = 0.5 * (channels - dims) * (2 * math.pi * self.residual_variance).log() + self.std.log().sum(1)
        return -0.5 * squared - constant * cells


class LevelWhitening(nn.Module):
    """A Whitening for each level of a pyramid whose levels have channels of their own.

    dims: components to keep at most; a level keeps all of its channels where it has fewer.
    """

    levels: Sequence[Whitening]

    def __init__(self, channels: Sequence[int], dims: int):
        super().__init__()
        self.dims = [min(dims, count) for count in channels]
        levels: Any = nn.ModuleList(Whitening(1, count, kept) for count, kept in zip(channels, self.dims, strict=True))
        self.levels = levels

    def fit(self, moments: Sequence[Moments], floor: float = 1e-3) -> None:
        for level, moment in zip(self.levels, moments, strict=True):
            level.fit([moment], floor)

    def forward(self, maps: Maps) -> Maps:
        """(B, C_l, H_l, W_l) per level to whitened (B, dims[l], H_l, W_l) float32."""
        return [level([x])[0] for level, x in zip(self.levels, maps, strict=True)]
