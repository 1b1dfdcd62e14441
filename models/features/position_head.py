"""A Gaussian per position beside a flow, which makes the flow's anomaly map finer and finds what the flow explains away.

It reads finer features than the flow, from the same pass of the backbone, and has no say in the image's score.
Source: Defard et al. 2020, PaDiM, section III, arXiv:2011.08785. The covariance is shrunk: a position that few images have
shown, or at which parts lie differently in every image, takes most of it from the mean of all positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.features.channel_choice import ChannelChoice, draw_channels
from models.features.position_gaussian import ROWS_PER_PRODUCT, PositionGaussian, PositionMoments, mahalanobis
from models.maps.grids import Maps
from models.roi.cells import Cells

if TYPE_CHECKING:
    from models.detector import Features, FitRun
    from models.features.extractor import FeatureExtractor

STATISTICS_BYTES = 84e6
MOST_DIMS = 128
LEAST_SQUARE = 1e-6  # of a cell that is exactly the mean, before its logarithm
LEAST_STD = 1e-6
MOST_OF_FLOW = 4.0  # standard deviations, which good cells seldom reach
MEASURED_IMAGES = 128  # the joined map's constants are measured on this many training images
MEASURED_BATCH = 16


class PositionHeadConfig(BaseModel):
    """Hyper-parameters.

    reductions: strides whose deepest features are read where taps names no layers. dims: channels drawn at random from all
    of them; None takes 128, or the largest multiple of 16 whose statistics fit in 84 MB. channel_seed: of that draw.
    regularisation: added to every variance, in squared units of the features. shrinkage: the mean covariance of all
    positions counts as this many images per dimension; 0 for none. share: of the head in the map, the rest is the flow's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reductions: tuple[Literal[4, 8, 16, 32], ...] = Field((8, 16), min_length=1)
    taps: tuple[str | int, ...] = ()
    dims: int | None = Field(None, ge=1)
    channel_seed: int = 1024
    regularisation: float = Field(0.01, gt=0)
    shrinkage: float = Field(1.0, ge=0)
    share: float = Field(0.5, gt=0, le=1)


def head_dims(cells: int) -> int:
    """The largest multiple of 16, from 16 to 128, for which mean and factor of all cells take at most 84 MB.

    >>> head_dims(cells=32 * 32), head_dims(cells=96 * 96)
    (128, 64)
    """
    values = STATISTICS_BYTES / 4 / cells  # dims (dims + 3) / 2
    return min(MOST_DIMS, max(16, int(math.sqrt(2 * values + 2.25) - 1.5) // 16 * 16))


class PositionHead(nn.Module):
    """Distances of cells from the Gaussian of their position, and the map that they make with a flow's cells.

    config: every default filled in. grid: rows and columns of the joined map.

    >>> head = PositionHead(PositionHeadConfig(taps=(1, 2), dims=4), [8, 16], [(4, 4), (2, 2)], flow_grid=(2, 2))
    >>> features = head.features([torch.randn(3, 8, 4, 4), torch.randn(3, 16, 2, 2)])
    >>> head.joined(torch.randn(3, 2, 2), features).shape
    torch.Size([3, 4, 4])
    """

    channels: Tensor
    flow_mean: Tensor
    flow_std: Tensor
    own_mean: Tensor
    own_std: Tensor

    def __init__(
        self,
        config: PositionHeadConfig,
        counts: Sequence[int],
        grids: Sequence[tuple[int, int]],
        flow_grid: tuple[int, int],
        seen: Tensor | None = None,
    ):
        """counts, grids: channels and (rows, columns) of the taps that it reads. flow_grid: of the flow's cells. seen: the
        pixels of the input that count, (H, W) bool; None: all."""
        super().__init__()
        self.own_grid = own = max(grids, key=lambda grid: grid[0] * grid[1])
        self.own_cells, self.flow_cells = Cells(seen, own), Cells(seen, flow_grid)
        dims = min(sum(counts), config.dims or head_dims(own[0] * own[1]))
        self.config = config.model_copy(update={"dims": dims})
        self.grid = max(own, flow_grid, key=lambda grid: grid[0] * grid[1])
        self.register_buffer("channels", draw_channels(sum(counts), dims, config.channel_seed))
        self.choice = ChannelChoice(self.channels, counts)
        self.register_load_state_dict_post_hook(lambda head, _: head.choice.set(head.channels))
        self.gaussian = PositionGaussian(own[0] * own[1], dims)
        for name, value in (("flow_mean", 0.0), ("flow_std", 1.0), ("own_mean", 0.0), ("own_std", 1.0)):
            self.register_buffer(name, torch.tensor(value))

    @classmethod
    def beside(
        cls, extractor: "FeatureExtractor", config: PositionHeadConfig, flow_grid: tuple[int, int], seen: Tensor | None
    ) -> Self:
        """Of the layers that the extractor reads beside its taps; the config keeps their names."""
        config = config.model_copy(update={"taps": extractor.beside})
        return cls(config, extractor.beside_channels, extractor.beside_grids, flow_grid, seen)

    def features(self, taps: list[Tensor]) -> Tensor:
        """The chosen channels of the taps, (B, C_t, h_t, w_t) each, on the cells of the finest: (B, dims, h, w)."""
        return self.choice(taps)

    def fit_bytes(self) -> int:
        """What fit holds whatever the images: the sums of the covariances, float64."""
        positions, dims = self.gaussian.mean.shape
        return 8 * positions * dims**2

    def fit(self, features: "Features", positions: Tensor, run: "FitRun") -> None:
        """Mean and covariance of every position over the images at the positions (N,), in one pass, of the last level."""
        count, dims = self.gaussian.mean.shape
        moments = PositionMoments(count, dims, self.gaussian.mean.device)
        for batch in run.batches("statistics of positions", positions, ROWS_PER_PRODUCT):
            moments.update(features.read(batch)[-1].to(run.device))
        moments.shrink(self.config.shrinkage * dims, self.own_cells.index)
        self.gaussian.fit(moments, self.config.regularisation)
        self.gaussian.freeze()

    @torch.no_grad()
    def measure(self, flow_cells: Callable[[Maps], Tensor], features: "Features", positions: Tensor, run: "FitRun") -> None:
        """Set means and deviations of both maps from some training images, evenly spaced. flow_cells: makes the flow's map
        of all levels but the last."""
        some = positions[:: -(-len(positions) // MEASURED_IMAGES)]
        of_flow, own = [], []
        for batch in run.batches("measuring the map", some, MEASURED_BATCH):
            maps = [x.to(run.device) for x in features.read(batch)]
            of_flow.append(self.flow_cells.only(flow_cells(maps[:-1])).double().flatten())
            own.append(self.own_cells.only(self.cells(maps[-1])).double().flatten())
        for name, cells in (("flow", torch.cat(of_flow)), ("own", torch.cat(own))):
            self.get_buffer(f"{name}_mean").copy_(cells.mean())
            self.get_buffer(f"{name}_std").copy_(cells.std().clamp_min(LEAST_STD))

    def measuring(
        self, flow_cells: Callable[[Maps], Tensor], features: "Features", positions: Tensor, run: "FitRun"
    ) -> "FitRun":
        """The run with `measure` before every call of its after_epoch, which scores."""
        called = run.after_epoch
        if called is None:
            return run

        def after_epoch(epoch: int) -> bool:
            self.measure(flow_cells, features, positions, run)
            return called(epoch)

        return replace(run, after_epoch=after_epoch)

    def fit_beside(
        self,
        fit_flow: Callable[["FitRun"], None],
        flow_cells: Callable[[Maps], Tensor],
        features: "Features",
        positions: Tensor,
        run: "FitRun",
    ) -> None:
        """All of a fit: the head's statistics, the flow, and what joins their maps, also whenever the flow is looked at."""
        self.fit(features, positions, run)
        fit_flow(self.measuring(flow_cells, features, positions, run))
        self.measure(flow_cells, features, positions, run)

    def cells(self, features: Tensor) -> Tensor:
        """Logarithm of the mean squared Mahalanobis distance per dimension, (B, h, w); higher is more anomalous."""
        squared = mahalanobis(self.gaussian(features)).square() / self.gaussian.mean.shape[1]
        return squared.clamp_min(LEAST_SQUARE).log()

    def joined(self, flow_cells: Tensor, features: Tensor) -> Tensor:
        """The map, (B, *grid): the mean of both maps' deviations from those of good images, in standard deviations.

        A flow multiplies what it has not seen by orders of magnitude, block after block, and spreads it over its kernels, so
        its deviations saturate (`bounded`): where they do, the head says where the defect ends.

        Args:
            flow_cells: the flow's own map, (B, h_f, w_f), on a scale of logarithms or nats.
            features: as `features` returns them.
        """
        flow = bounded((flow_cells - self.flow_mean) / self.flow_std, MOST_OF_FLOW)
        own = (self.cells(features) - self.own_mean) / self.own_std
        flow, own = self.flow_cells.resized(flow, self.grid), self.own_cells.resized(own, self.grid)
        return (1 - self.config.share) * flow + self.config.share * own


def bounded(deviations: Tensor, most: float) -> Tensor:
    """z / (1 + z / most) of positive deviations z, which keeps their order and stays below `most`; others as they are.

    >>> bounded(torch.tensor([-2.0, 0.0, 4.0, float("inf")]), most=4.0)
    tensor([-2.,  0.,  2.,  4.])
    """
    above = deviations.clamp(0, 1e9)  # beyond, float32 has no more digits; an infinite one stays a number
    return torch.where(deviations > 0, above / (1 + above / most), deviations)
