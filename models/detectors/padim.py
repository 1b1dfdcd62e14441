"""PaDiM: a Gaussian of patch embeddings at every position (Defard et al. 2020, arXiv:2011.08785).

The fit takes one pass over the images and no gradient step. Differences from the public implementation that
tests/golden/README.md section 5 describes: maps and scores are raw distances (there they are min-max scaled over the whole
test set, so that an image's score depends on the others), and the covariance's factor is stored, not its inverse.

Zero padding makes the features of border cells special; statistics per position absorb that, but they also need the
parts in the same place in every image. The artifact holds the backbone and h w (dims (dims + 3) / 2) float32, 330 MB by
default; see models/features/position_gaussian.py for the memory of fitting and scoring.
"""

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Positive, Scored, Step
from models.features.channel_choice import ChannelChoice, draw_channels
from models.features.embedding import EMBEDDING_SIZE, embedding
from models.features.extractor import FeatureExtractor
from models.features.position_gaussian import (
    ROWS_PER_PRODUCT,
    PositionGaussian,
    PositionMoments,
    mahalanobis,
    positions_at_once,
)
from models.maps.grids import Maps
from models.maps.scores import top_mean
from models.maps.smoothing import enlarge_and_smooth, enlarging_matrix, smoothing_matrix
from models.roi.cells import Cells, pixels_inside

REDUCTIONS = (4, 8, 16)  # layer1 to layer3 of a ResNet
STATISTICS_BYTES = 335e6
LEAST_REACH = 1e-6  # far outside the region of interest, where the map means nothing


class PadimConfig(BaseModel):
    """Hyper-parameters; the original's are 100 dims for ResNet-18 and 550 for Wide ResNet-50-2, and the score max.

    dims: channels drawn at random from all taps, at most as many as there are; None takes the largest multiple of 16 whose
    statistics fit in 335 MB, 400 for a finest grid of 32 x 32 and 192 for one of 64 x 64. channel_seed: of that draw, in the
    order of Python's random.sample. regularisation: added to every variance, in squared units of the features.
    smoothing_sigma: of the Gaussian filter, in pixels of the image as the backbone reads it; 0 for none. score: top, the
    mean of the highest top_share of the map, or max, the original's. One stain on an otherwise good piece decides max, and
    an image of something else entirely need not exceed that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dims: int | None = Field(None, ge=1)
    channel_seed: int = 1024
    regularisation: float = Field(0.01, gt=0)
    smoothing_sigma: float = Field(4.0, ge=0)
    score: Literal["top", "max"] = "top"
    top_share: float = Field(0.2, gt=0, le=1)


def default_dims(cells: int) -> int:
    """The largest multiple of 16, at least 16, for which mean and factor of all cells take at most STATISTICS_BYTES.

    >>> default_dims(cells=64 * 64)
    192
    """
    values = STATISTICS_BYTES / 4 / cells  # dims (dims + 3) / 2
    return max(16, int(math.sqrt(2 * values + 2.25) - 1.5) // 16 * 16)


class PadimTraining(BaseModel):
    """PaDiM has nothing to set: the fit is one pass in closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def build(config: ArtifactConfig) -> "Padim":
    """PaDiM without statistics yet; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> detector = build(ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters={"dims": 10}))
    >>> detector.gaussian.mean.shape  # cells, dims
    torch.Size([256, 10])
    """
    return Padim(config)


class Padim(Detector):
    Training = PadimTraining
    positive = Positive(score=True, map=True)
    reads_often = False
    channels: Tensor
    smooth_rows: Tensor
    smooth_columns: Tensor
    reach: Tensor | None  # the weight that the cells that count have at every pixel, (1, H, W)

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = PadimConfig.model_validate(config.hyperparameters)
        self.backbone = FeatureExtractor(config, REDUCTIONS)
        total = sum(self.backbone.channels)
        rows, columns = max(self.backbone.grids, key=lambda grid: grid[0] * grid[1])
        dims = min(total, hyper.dims or default_dims(rows * columns))
        self.hyper = hyper = hyper.model_copy(update={"dims": dims})
        self.config = config.filled_in(hyper, self.backbone.config, (rows, columns))
        self.register_buffer("channels", draw_channels(total, dims, hyper.channel_seed))
        self.choice = ChannelChoice(self.channels, self.backbone.channels)
        self.register_load_state_dict_post_hook(lambda padim, _: padim.choice.set(padim.channels))
        self.gaussian = PositionGaussian(rows * columns, dims)
        self.see([Cells(pixels_inside(config.input), (rows, columns))], (config.input.height, config.input.width))
        for name, cells, size in (("smooth_rows", rows, config.input.height), ("smooth_columns", columns, config.input.width)):
            matrix = smoothing_matrix(size, hyper.smoothing_sigma) @ enlarging_matrix(cells, size)
            self.register_buffer(name, matrix.float(), persistent=False)
        mask = self.levels[0].mask
        reach = None if mask is None else enlarge_and_smooth(mask[None].float(), self.smooth_rows, self.smooth_columns)
        self.register_buffer("reach", reach, persistent=False)

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """The chosen channels of all taps on the cells of the finest, one map (B, dims, h, w); 0 in cells that do not count."""
        return [self.levels[0].zeroed(self.choice(self.backbone(self.seen(inputs))))]

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Mean and covariance of every position in one pass; no step has a loss, so 0 is reported."""
        device = self.gaussian.mean.device
        count, dims = self.gaussian.mean.shape
        moments = PositionMoments(count, dims, device)
        batches = positions.split(ROWS_PER_PRODUCT)
        for i in run.steps(len(batches)):
            moments.update(features.read(batches[i])[0].to(device))
            run.on_step(Step(epoch=0, epochs=1, step=i, steps=len(batches), loss=0.0))

        at_once = positions_at_once(dims)
        for rows in run.batches("factors of the covariances", torch.arange(count), at_once, "positions"):
            self.gaussian.fit(moments, self.hyper.regularisation, slice(int(rows[0]), int(rows[-1]) + 1))
        del moments  # frees the largest tensors before more are made
        self.gaussian.freeze()  # scores are taken between fit and freeze too

    def fit_bytes(self) -> int:
        """The sums of the covariances, float64."""
        positions, dims = self.gaussian.mean.shape
        return 8 * positions * dims**2

    def score_features(self, maps: Maps) -> Scored:
        """The map holds distances, enlarged to the image's size and smoothed, (B, H, W). The score is taken from it before
        it is resized to the artifact's map size."""
        whitened = self.gaussian(maps[0])
        distances = mahalanobis(whitened)
        smooth = enlarge_and_smooth(self.levels[0].zeroed(distances), self.smooth_rows, self.smooth_columns)
        if self.reach is not None:  # means of the cells that count only
            smooth = smooth / self.reach.clamp(min=LEAST_REACH)
        counted = self.own.only(smooth)
        score = counted.amax(dim=(1, 2)) if self.hyper.score == "max" else top_mean(counted, self.hyper.top_share)
        return Scored(score, smooth, embedding(self.levels[0].only(whitened[:, :EMBEDDING_SIZE])))

    def freeze(self) -> Self:
        super().freeze()
        self.gaussian.freeze()
        return self
