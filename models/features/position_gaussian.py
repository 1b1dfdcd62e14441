"""One Gaussian per cell of a feature map: moments in one pass, Mahalanobis distances from inverse Cholesky factors.

Source: Defard et al. 2020, PaDiM, section III, arXiv:2011.08785; exact semantics in tests/golden/README.md section 5.

Memory for P positions and d channels: fitting takes P x d x d float64 (64 x 64 cells: 328 MB at d = 100, 1.3 GB at
d = 200), whatever the number of images, and then the triangles beside it. The artifact holds P x d (d + 1) / 2 float32
(83 and 329 MB). Scoring also holds the full matrices, P x d x d float32 (177 and 655 MB; d is rounded up to a multiple of 8).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.prepared import Prepared

# A sum of n float32 products is off by at most n 2^-24 of the root of the variances' product: 2e-6 with 33 rows.
ROWS_PER_PRODUCT = 32  # the difference of the means adds one more
PRODUCT_ELEMENTS = 2**20  # the size of a block of positions that stays in a processor's cache
# Matrix kernels sum the last few rows and unaligned rows in other orders. With images filled up to multiples of 16 and
# channels to multiples of 8, an image gave the same bits in every slot.
SLOTS_MULTIPLE, CHANNELS_MULTIPLE = 16, 8


class PositionMoments:
    """Mean and covariance of every position over a stream of images, each seen once.

    Chan, Golub & LeVeque 1983, eq. 2.1: the scatter of two sets about their own means adds up once the difference of
    the means is counted as one more row. Means, deviations from them and sums are float64; only the products within one
    part of a batch are float32. This bounds the error for any number of images and any distance of the mean from zero.

    >>> moments = PositionMoments(positions=4, channels=2)
    >>> moments.update(torch.arange(24.0).view(3, 2, 2, 2))
    >>> moments.mean[0], moments.covariance()[0]
    (tensor([ 8., 12.], dtype=torch.float64), tensor([[64., 64.],
            [64., 64.]], dtype=torch.float64))
    """

    def __init__(self, positions: int, channels: int, device: torch.device | str = "cpu"):
        self.count = 0
        self.prior = 0.0  # images that the mean covariance of all positions counts for
        self.mean = torch.zeros(positions, channels, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(positions, channels, channels, dtype=torch.float64, device=device)

    def update(self, maps: Tensor) -> None:
        """Add images: (B, d, h, w) with h * w positions in row-major order, float32 or float64."""
        if not torch.isfinite(maps).all():
            raise ValueError(
                "features must be finite; got NaN or infinity. Check the backbone's weights, or use precision float32."
            )
        for part in maps.flatten(2).split(ROWS_PER_PRODUCT):  # (B, d, P)
            rows = part.permute(2, 0, 1).to(self.mean.device)  # (P, B, d)
            for block in position_blocks(*self.mean.shape):
                self._add(rows[block].double(), block)
            self.count += len(part)

    def _add(self, rows: Tensor, block: slice) -> None:
        new = rows.shape[1]
        center = rows.mean(1, keepdim=True)  # (p, 1, d)
        shift = center - self.mean[block, None]
        total = self.count + new
        between = shift * (self.count * new / total) ** 0.5
        deviations = torch.cat([rows - center, between], 1).float()  # (p, B + 1, d)
        self.scatter[block] += torch.bmm(deviations.mT, deviations)
        self.mean[block] += shift[:, 0] * (new / total)

    def shrink(self, images: float, of: Tensor | None = None) -> None:
        """Let the mean covariance of all positions count for so many images at each of them, after the last update.

        of: the positions whose mean it is, int64; None: all.

        It is the mean of an inverse Wishart posterior. Source: Haff 1980, Empirical Bayes estimation of the multivariate
        normal covariance matrix, Annals of Statistics 8, 586-597.

        >>> moments = PositionMoments(positions=2, channels=1)
        >>> moments.update(torch.tensor([0.0, 0.0, 2.0, 0.0]).view(2, 1, 1, 2))  # variances 2 and 0
        >>> moments.shrink(images=1)
        >>> moments.covariance().flatten()
        tensor([1.5000, 0.5000], dtype=torch.float64)
        """
        scatter = self.scatter if of is None else self.scatter[of.to(self.scatter.device)]
        self.scatter += images * scatter.mean(0) / self._freedom()
        self.prior += images

    def covariance(self, block: slice = slice(None)) -> Tensor:
        """(p, d, d), float64, of the positions in the block; unbiased unless shrunk."""
        return self.scatter[block] / self._freedom()

    def _freedom(self) -> float:
        if self.count < 2:
            raise ValueError(f"training images must be at least 2; got {self.count}. Add good images.")
        return self.count - 1 + self.prior


class PositionGaussian(Prepared):
    """A Gaussian per position as mean and packed W = L^-1, where L L' is the covariance plus regularisation * I.

    |W (x - mean)| is the Mahalanobis distance. The matrix product takes 45 ms and a triangular solve 67, for 16 images of
    64 x 64 positions with d = 100 on one core. Maps in channels_last memory are fastest.

    >>> moments = PositionMoments(positions=4, channels=2)
    >>> moments.update(torch.randn(50, 2, 2, 2, generator=torch.Generator().manual_seed(0)))
    >>> gaussian = PositionGaussian(positions=4, channels=2)
    >>> gaussian.fit(moments, regularisation=0.01)
    >>> gaussian(torch.zeros(3, 2, 2, 2)).shape
    torch.Size([3, 2, 2, 2])
    """

    mean: Tensor
    factor: Tensor
    frozen: Tensor | None

    def __init__(self, positions: int, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(positions, channels))
        # Row-major lower triangle; the identity until fitted.
        self.register_buffer("factor", torch.eye(channels)[_triangle(channels)].repeat(positions, 1))
        self.register_buffer("frozen", None, persistent=False)

    def fit(self, moments: PositionMoments, regularisation: float, some: slice = slice(None)) -> None:
        """Set positions from their moments.

        Args:
            regularisation: added to every variance, in squared units of the features; positive.
            some: the positions that are set; all by default.
        """
        triangle = _triangle(self.mean.shape[1]).to(moments.mean.device)
        first, last, _ = some.indices(len(self.mean))
        for block in position_blocks(last - first, self.mean.shape[1]):
            block = slice(first + block.start, first + block.stop)
            self.factor[block] = inverse_factors(moments.covariance(block), regularisation)[:, triangle].to(self.factor)
        self.mean[some] = moments.mean[some].to(self.mean)
        self.frozen = None

    def freeze(self) -> None:
        """Keep the full matrices in memory; scoring would otherwise unpack them for every batch."""
        self.frozen = self._padded()

    def matrices(self) -> Tensor:
        """W of every position, (P, d, d), float32, lower triangular."""
        positions, channels = self.mean.shape
        full = self.factor.new_zeros(positions, channels, channels)
        return full.masked_scatter_(_triangle(channels).to(full.device), self.factor)

    def _padded(self) -> Tensor:
        """W' of every position, with zeros up to the next multiple of channels. The product reads this layout faster: an image
        of 64 x 64 positions with d = 100 takes 2.3 ms on one core, and 2.9 with W itself."""
        more = -self.mean.shape[1] % CHANNELS_MULTIPLE
        return F.pad(self.matrices().mT, (0, more, 0, more)).contiguous()

    def forward(self, maps: Tensor) -> Tensor:
        """Whitened features W (x - mean). For images like the good ones they are independent with variance 1 everywhere.

        Args:
            maps: (B, d, h, w), float32.
        Returns:
            (B, d, h, w), float32. The norm over d is the Mahalanobis distance; higher is more anomalous.
        """
        matrices = self._padded() if self.frozen is None else self.frozen
        images, channels = maps.shape[:2]
        rows = maps.new_zeros(len(self.mean), images + -images % SLOTS_MULTIPLE, matrices.shape[2])
        rows[:, :images, :channels] = maps.flatten(2).permute(2, 0, 1) - self.mean[:, None]  # (P, B, d)
        whitened = torch.bmm(rows, matrices)[:, :images, :channels]
        return whitened.permute(1, 2, 0).unflatten(2, maps.shape[2:])  # (B, d, h, w)


def mahalanobis(whitened: Tensor) -> Tensor:
    """Distance of every position, not squared: (B, d, h, w) from PositionGaussian to (B, h, w).

    Source: PaDiM, eq. 2.

    >>> mahalanobis(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    tensor([[[5.]]])
    """
    return torch.linalg.vector_norm(whitened, dim=1)


def inverse_factors(covariance: Tensor, regularisation: float) -> Tensor:
    """W = L^-1 with L L' = covariance + regularisation I, (p, d, d) lower triangular, in the covariance's dtype.

    It does not use torch.linalg.inv, which hung on batches.

    >>> inverse_factors(torch.tensor([[[3.0, 0.0], [0.0, 15.0]]]), regularisation=1.0)
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.2500]]])
    """
    identity = torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device)
    lower = torch.linalg.cholesky(covariance + regularisation * identity)
    return torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)


def position_blocks(positions: int, channels: int) -> list[slice]:
    """All positions in consecutive parts whose (p, d, d) matrices are small.

    >>> position_blocks(positions=5, channels=700)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = positions_at_once(channels)
    return [slice(start, min(start + step, positions)) for start in range(0, positions, step)]


def positions_at_once(channels: int) -> int:
    """How many positions a block has.

    >>> positions_at_once(channels=700)
    2
    """
    return max(1, PRODUCT_ELEMENTS // channels**2)


def _triangle(channels: int) -> Tensor:
    """(d, d) bool, True on and below the diagonal."""
    return torch.ones(channels, channels, dtype=torch.bool).tril()
