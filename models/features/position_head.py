"""A Gaussian per position beside a flow, which makes the flow's anomaly map finer and finds what the flow explains away.

It reads finer and coarser features than the flow, from the same pass of the backbone. An image's score can take the top of
the joined map beside the flow's own score: a small defect hides in a mean over all cells, a large and faint one in the highest
cells. Source: Defard et al. 2020, PaDiM, section III, arXiv:2011.08785. The covariance is shrunk: a position that few images
have shown, or at which parts lie differently in every image, takes some of it from the mean of all positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.features.channel_choice import ChannelChoice, draw_evenly
from models.features.position_gaussian import ROWS_PER_PRODUCT, PositionGaussian, PositionMoments, mahalanobis
from models.maps.grids import Maps
from models.maps.scores import top_mean
from models.roi.cells import Cells

if TYPE_CHECKING:
    from models.detector import Features, FitRun
    from models.features.extractor import FeatureExtractor

STATISTICS_BYTES = 84e6
MOST_DIMS = 192
LEAST_SQUARE = 1e-6  # of a cell that is exactly the mean, before its logarithm
LEAST_SCORE = 1e-12  # of an image, before its logarithm
LEAST_STD = 1e-6
TOP_SHARE = 0.01  # of the joined map's cells, for the score
MOST_OF_FLOW = 4.0  # standard deviations, which good cells seldom reach
MEASURED_IMAGES = 128  # the joined map's constants are measured on this many training images
MEASURED_BATCH = 16

Flow = Callable[[Maps], tuple[Tensor, Tensor]]  # all levels but the head's, to the flow's own score, (B,), and its map


class PositionHeadConfig(BaseModel):
    """Hyper-parameters.

    reductions: strides whose deepest features are read where taps names no layers. dims: channels drawn at random, of
    every layer as many as of the others; None takes 192, or the largest multiple of 16 whose statistics fit in 84 MB.
    channel_seed: of that draw.
    regularisation: added to every variance, in squared units of the features. shrinkage: the mean covariance of all
    positions counts as this many images per dimension; 0 for none. share: of the head in the map, the rest is the flow's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reductions: tuple[Literal[4, 8, 16, 32], ...] = Field((8, 16, 32), min_length=1)
    taps: tuple[str | int, ...] = ()
    dims: int | None = Field(None, ge=1)
    channel_seed: int = 1024
    regularisation: float = Field(0.01, gt=0)
    shrinkage: float = Field(0.1, ge=0)
    share: float = Field(0.5, gt=0, le=1)


def head_dims(cells: int) -> int:
    """The largest multiple of 16, from 16 to 192, for which mean and factor of all cells take at most 84 MB.

    >>> head_dims(cells=32 * 32), head_dims(cells=96 * 96)
    (192, 64)
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
    part_means: Tensor
    part_weights: Tensor

    def __init__(
        self,
        config: PositionHeadConfig,
        counts: Sequence[int],
        grids: Sequence[tuple[int, int]],
        flow_grid: tuple[int, int],
        seen: Tensor | None = None,
        scores: bool = False,
    ):
        """counts, grids: channels and (rows, columns) of the taps that it reads. flow_grid: of the flow's cells. seen: the
        pixels of the input that count, (H, W) bool; None: all. scores: whether it has a part in the image's score."""
        super().__init__()
        self.own_grid = own = max(grids, key=lambda grid: grid[0] * grid[1])
        self.own_cells, self.flow_cells = Cells(seen, own), Cells(seen, flow_grid)
        dims = min(sum(counts), config.dims or head_dims(own[0] * own[1]))
        self.config = config.model_copy(update={"dims": dims})
        self.map_cells = max(self.own_cells, self.flow_cells, key=lambda cells: cells.grid[0] * cells.grid[1])
        self.grid = self.map_cells.grid
        self.scores = scores
        self.register_buffer("channels", draw_evenly(counts, dims, config.channel_seed))
        self.choice = ChannelChoice(self.channels, counts)
        self.register_load_state_dict_post_hook(lambda head, _: head.choice.set(head.channels))
        self.gaussian = PositionGaussian(own[0] * own[1], dims)
        self._fitted_to = 2.0  # images, in `fit`
        for name in ("flow", "own"):
            self.register_buffer(f"{name}_mean", torch.tensor(0.0))
            self.register_buffer(f"{name}_std", torch.tensor(1.0))
        if scores:  # of the flow's part and of the map's; until they are weighed, the flow's stands alone
            self.register_buffer("part_means", torch.zeros(2))
            self.register_buffer("part_weights", torch.tensor([1.0, 0.0]))

    @classmethod
    def beside(
        cls,
        extractor: "FeatureExtractor",
        config: PositionHeadConfig,
        flow_grid: tuple[int, int],
        seen: Tensor | None,
        scores: bool,
    ) -> Self:
        """Of the layers that the extractor reads beside its taps; the config keeps their names."""
        config = config.model_copy(update={"taps": extractor.beside})
        return cls(config, extractor.beside_channels, extractor.beside_grids, flow_grid, seen, scores)

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
        self._fitted_to = moments.count
        self.gaussian.fit(moments, self.config.regularisation)
        self.gaussian.freeze()

    @torch.no_grad()
    def measure(self, flow: Flow, features: "Features", positions: Tensor, run: "FitRun") -> None:
        """Set means and deviations of both maps from some training images, evenly spaced; to the head, each is as if it had
        been left out of its fit."""
        some = positions[:: -(-len(positions) // MEASURED_IMAGES)]
        of_flow, own = [], []
        for batch in run.batches("measuring the map", some, MEASURED_BATCH):
            maps = [x.to(run.device) for x in features.read(batch)]
            of_flow.append(self.flow_cells.only(flow(maps[:-1])[1]).double().flatten())
            own.append(self.own_cells.only(self._left_out(self.cells(maps[-1]))).double().flatten())
        for name, cells in (("flow", torch.cat(of_flow)), ("own", torch.cat(own))):
            self.get_buffer(f"{name}_mean").copy_(cells.mean())
            self.get_buffer(f"{name}_std").copy_(cells.std().clamp_min(LEAST_STD))

    def _left_out(self, cells: Tensor) -> Tensor:
        """The cells of an image that was fitted, (B, h, w), as if it had not been: a Gaussian is near to what it has seen.

        With A the sum of all deviations' squares, shrinkage included, and v an image's deviation, the others have the mean
        that lies v / (n - 1) farther away, and A - v v' n / (n - 1), whose inverse is a rank one update of A's. The mean
        covariance of all positions is taken as it is.
        Source: Sherman and Morrison 1950, Annals of Mathematical Statistics 21, 124-127.
        """
        images, dims = self._fitted_to, self.gaussian.mean.shape[1]
        freedom, away = images - 1 + self.config.shrinkage * dims, images / (images - 1)
        within = cells.exp() * dims / freedom  # v' A^-1 v
        left = 1 - (away * within).clamp(max=1 - LEAST_SQUARE)
        return ((freedom - 1) * away**2 * within / (dims * left)).log()

    @torch.no_grad()
    def weigh(self, flow: Flow, features: "Features", held_out: Tensor) -> dict[str, Tensor]:
        """Set the weights of the score's parts from good images that were not fitted, (H,), and return them by name.

        A flow gives all images that it was fitted to about the same score, so these say nothing.
        """
        device, parts = self.part_means.device, []
        for batch in held_out.split(MEASURED_BATCH):
            maps = [x.to(device) for x in features.read(batch)]
            score, cells = flow(maps[:-1])
            parts.append(self._parts(score, self.joined(cells, maps[-1])).double())
        found = torch.cat(parts)
        self.part_means.copy_(found.mean(0))
        self.part_weights.copy_(0.5 / found.std(0).clamp_min(LEAST_STD))
        return {name: self.get_buffer(name).clone() for name in ("part_means", "part_weights")}

    def measuring(self, flow: Flow, features: "Features", positions: Tensor, run: "FitRun") -> "FitRun":
        """The run with `measure` before every call of its after_epoch, which scores."""
        called = run.after_epoch
        if called is None:
            return run

        def after_epoch(epoch: int) -> bool:
            self.measure(flow, features, positions, run)
            return called(epoch)

        return replace(run, after_epoch=after_epoch)

    def fit_beside(
        self,
        fit_flow: Callable[["FitRun"], None],
        flow: Flow,
        features: "Features",
        positions: Tensor,
        run: "FitRun",
    ) -> None:
        """All of a fit: the head's statistics, the flow, and what joins their maps, also whenever the flow is looked at."""
        self.fit(features, positions, run)
        fit_flow(self.measuring(flow, features, positions, run))
        self.measure(flow, features, positions, run)

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
        return self._together(flow_cells, self.cells(features))

    def _together(self, flow_cells: Tensor, own_cells: Tensor) -> Tensor:
        flow = bounded((flow_cells - self.flow_mean) / self.flow_std, MOST_OF_FLOW)
        own = (own_cells - self.own_mean) / self.own_std
        flow, own = self.flow_cells.resized(flow, self.grid), self.own_cells.resized(own, self.grid)
        return (1 - self.config.share) * flow + self.config.share * own

    def joined_score(self, score: Tensor, joined: Tensor) -> Tensor:
        """(B,): the mean of two deviations from good images, in standard deviations: of the logarithm of the flow's own score,
        (B,), and of the mean of the joined map's highest cells, (B, *grid). Before `weigh`, the logarithm."""
        return ((self._parts(score, joined) - self.part_means) * self.part_weights).sum(1)

    def _parts(self, score: Tensor, joined: Tensor) -> Tensor:
        """(B, 2)."""
        return torch.stack([score.clamp_min(LEAST_SCORE).log(), top_mean(self.map_cells.only(joined), TOP_SHARE)], 1)


def bounded(deviations: Tensor, most: float) -> Tensor:
    """z / (1 + z / most) of positive deviations z, which keeps their order and stays below `most`; others as they are.

    >>> bounded(torch.tensor([-2.0, 0.0, 4.0, float("inf")]), most=4.0)
    tensor([-2.,  0.,  2.,  4.])
    """
    above = deviations.clamp(0, 1e9)  # beyond, float32 has no more digits; an infinite one stays a number
    return torch.where(deviations > 0, above / (1 + above / most), deviations)
