"""PCA whitening of backbone features: an affine first layer of the flow, fitted in closed form, one per scale.

z = diag(max(lambda, floor))^-1/2 U_k' (x - mean) / std, with U_k and lambda the eigenvectors and eigenvalues of the
standardised covariance.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.detector import Features, FitRun
from models.features.variation import NoVariation
from models.maps.grids import Maps

READ_IMAGES = 32
LEAST_SHARE = 1e-6  # of the means, which float32 rounds by a tenth of it


class Moments:
    """Mean and covariance of one scale's feature vectors in one pass over the images, in float64.

    >>> moments = Moments(channels=2)
    >>> moments.update(torch.tensor([[0.0, 2.0], [1.0, 5.0]]).view(1, 2, 2, 1))
    >>> moments.mean, moments.covariance()
    (tensor([1., 3.], dtype=torch.float64), tensor([[2., 4.],
            [4., 8.]], dtype=torch.float64))
    """

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


def moments_of(
    features: Features, positions: Tensor, run: FitRun | None = None, counted: Callable[[Maps], Maps] = lambda maps: maps
) -> list[Moments]:
    """Moments of every level over the images at the positions (N,), int64.

    run: is told how many are read.  counted: `Detector.counted`, which leaves out cells that do not count.

    >>> from types import SimpleNamespace
    >>> features = SimpleNamespace(read=lambda positions: [torch.ones(len(positions), 3, 4, 4)])
    >>> moments_of(features, torch.arange(10))[0].count  # cells
    160
    """
    if not len(positions):
        raise ValueError("training images must be at least 1; got 0. Check --input, --exclude and the shares.")
    moments: list[Moments] = []
    for batch in positions.split(READ_IMAGES) if run is None else run.batches("whitening", positions, READ_IMAGES):
        maps = counted(features.read(batch))
        moments = moments or [Moments(x.shape[1]) for x in maps]
        for moment, x in zip(moments, maps, strict=True):
            moment.update(x)
    return moments


class Whitening(nn.Module):
    """Standardise, rotate to principal components, keep k of them and scale each to variance 1, per scale.

    >>> maps = [5 + 3 * torch.randn(50, 6, 4, 4, generator=torch.Generator().manual_seed(0))]
    >>> moments = Moments(channels=6)
    >>> moments.update(maps[0])
    >>> whitening = Whitening(scales=1, channels=6, dims=2)
    >>> whitening.fit([moments])
    >>> whitening(maps)[0].shape, round(float(whitening(maps)[0].std()), 2)
    (torch.Size([50, 2, 4, 4]), 1.0)
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, scales: int, channels: int, dims: int):
        super().__init__()
        if not 1 <= dims <= channels:
            raise ValueError(f"whiten_dims must be 1 to {channels}, the channels of the taps; got {dims}. Lower it.")
        # The affine map folded into one matrix per scale, z = weight x + bias.
        self.register_buffer("weight", torch.zeros(scales, dims, channels))
        self.register_buffer("bias", torch.zeros(scales, dims))

    def fit(self, moments: list[Moments], floor: float = 1e-3) -> None:
        """Set every scale from its moments.

        Args:
            floor: the least divisor; smaller eigenvalues of the standardised covariance (mean variance 1) are raised to it.
        """
        dims = self.weight.shape[1]
        for s, moment in enumerate(moments):
            covariance = moment.covariance()
            std = covariance.diagonal().clamp_min(0).sqrt()
            if not std.max() > LEAST_SHARE * moment.mean.abs().max():
                raise NoVariation(
                    f"features must vary; their largest standard deviation is {float(std.max()):.3g}, with means of up to "
                    f"{float(moment.mean.abs().max()):.3g}. Check that the training images are not blank."
                )
            std = torch.where(std > 1e-6 * std.max(), std, 1.0)  # a channel that never fires on good images stays raw
            values, vectors = torch.linalg.eigh(covariance / torch.outer(std, std))
            values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)  # largest first; columns are eigenvectors
            # LAPACK leaves the signs open: make the entry of largest magnitude positive.
            largest = vectors.abs().argmax(0, keepdim=True)
            vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
            kept = values[:dims].clamp_min(floor)
            weight = vectors[:, :dims].T / kept.sqrt()[:, None] / std  # (k, C)
            self.weight[s], self.bias[s] = weight, -(weight @ moment.mean)

    def forward(self, maps: Maps) -> Maps:
        """(B, C, H_i, W_i) per scale to whitened (B, k, H_i, W_i) of the weight's dtype (float32)."""
        return [
            F.linear(x.to(weight.dtype).movedim(1, -1), weight, bias).movedim(-1, 1)  # (B, k, H, W)
            for x, weight, bias in zip(maps, self.weight, self.bias, strict=True)
        ]


class LevelWhitening(nn.Module):
    """A Whitening for each level of a pyramid whose levels differ in their channels.

    dims: the most components to keep; a level with fewer channels keeps them all.

    >>> LevelWhitening([64, 8], dims=16).dims
    [16, 8]
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
