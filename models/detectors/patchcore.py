"""PatchCore: the distance of every cell to the nearest cell of good images (Roth et al. 2022, arXiv:2106.08265).

It has no gradient step and no statistics: a bank of cells of good images is what it knows. So it suits backbones whose features
no Gaussian describes, such as vision transformers trained without labels (DINOv2, DINOv3), with weights from a local file.

Differences from the paper: cells are brought to length 1, so that a distance is one of angles (Damm et al. 2024, AnomalyDINO,
section 3, arXiv:2405.14529, whose image score, the mean of the highest 1 % of cells, is the default too); the bank has a fixed
number of rows, chosen from as many random ones of every image; an image's score is not weighed by the bank's density.
"""

from functools import partial
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Positive, Scored, Step
from models.features.channel_choice import ChannelChoice, draw_channels
from models.features.embedding import embedding
from models.features.extractor import FeatureExtractor
from models.maps.grids import Maps
from models.maps.scores import top_mean
from models.patches.nearest import CHOSEN_AT_ONCE, Bank, distances_to, filled, searchable, spread
from models.prepared import Prepared
from models.roi.cells import Cells, pixels_inside

REDUCTIONS = (8, 16)  # layer2 and layer3 of a ResNet; the last block of a transformer
MOST_DIMS = 512
POOL = 4  # the coreset is chosen from this many times its rows
PROJECTED = 64  # dimensions in which it is chosen
READ_IMAGES = 16


class PatchCoreConfig(BaseModel):
    """Hyper-parameters.

    neighbourhood: side of the square of cells that a cell's features are averaged over, at every tap (original: 3). dims:
    channels drawn at random from all taps, at most as many as there are; None takes all, or 512. channel_seed: of that draw.
    unit: whether the features of every tap have length 1 in every cell; the original's have not. bank_size: rows of the
    bank. bank: coreset, chosen by greedy k-centre from POOL times as many random cells, or random. score: top, the mean of
    the highest top_share of the map, or max, the original's before its weight.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbourhood: Literal[1, 3, 5, 7] = 3
    dims: int | None = Field(None, ge=1)
    channel_seed: int = 1024
    unit: bool = True
    bank_size: int = Field(5_000, ge=2)
    bank: Literal["coreset", "random"] = "coreset"
    score: Literal["top", "max"] = "top"
    top_share: float = Field(0.01, gt=0, le=1)


class PatchCoreTraining(BaseModel):
    """PatchCore has nothing to set: the bank is made in one pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def build(config: ArtifactConfig) -> "PatchCore":
    """PatchCore without a bank yet; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network = BackboneConfig(name="test_vit", weights="none", kwargs={"img_size": 64})
    >>> few = {"bank_size": 100}
    >>> detector = build(
    ...     ArtifactConfig(name="tile", input=InputConfig(height=64, width=64), backbone=network, hyperparameters=few)
    ... )
    >>> detector.bank.shape, detector.config.map_width
    (torch.Size([100, 64]), 4)
    """
    return PatchCore(config)


class PatchCore(Prepared, Detector):
    Training = PatchCoreTraining
    positive = Positive(score=True, map=True)
    reads_often = False
    channels: Tensor
    bank: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = PatchCoreConfig.model_validate(config.hyperparameters)
        self.backbone = FeatureExtractor(config, REDUCTIONS)
        total = sum(self.backbone.channels)
        dims = min(total, hyper.dims or MOST_DIMS)
        self.hyper = hyper = hyper.model_copy(update={"dims": dims})
        grid = max(self.backbone.grids, key=lambda cells: cells[0] * cells[1])
        self.config = config.filled_in(hyper, self.backbone.config, grid)
        self.see([Cells(pixels_inside(config.input), grid)], grid)
        self.register_buffer("channels", draw_channels(total, dims, hyper.channel_seed))
        self.choice = ChannelChoice(self.channels, self.backbone.channels)
        self.register_load_state_dict_post_hook(lambda found, _: found.choice.set(found.channels))
        self.register_buffer("bank", torch.zeros(hyper.bank_size, dims))
        self.frozen: Bank | None = None

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """Averaged over neighbours, of length 1 per tap, the chosen channels of all taps on the cells of the finest: one map
        (B, dims, h, w); 0 in cells that do not count."""
        side = self.hyper.neighbourhood
        taps = [F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False) for x in self.backbone(self.seen(inputs))]
        if self.hyper.unit:
            taps = [_unit(x) for x in taps]
        return [self.levels[0].zeroed(self.choice(taps))]

    @torch.no_grad()
    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """The bank, in one pass that draws equally many cells of every image; no step has a loss, so 0 is reported. At most as
        many images are read as cells are wanted."""
        self.forget()
        size, device = len(self.bank), self.bank.device
        wanted = size * (POOL if self.hyper.bank == "coreset" else 1)
        generator = torch.Generator().manual_seed(run.seed)
        each = -(-wanted // len(positions))
        if len(positions) > wanted:
            positions = positions[torch.randperm(len(positions), generator=generator)[:wanted]]
        pool: list[Tensor] = []
        batches = positions.split(READ_IMAGES)
        for i in run.steps(len(batches)):
            for of_image in self.levels[0].only(features.read(batches[i])[0]).flatten(2).transpose(1, 2):  # (cells, dims)
                pool.append(of_image[torch.randperm(len(of_image), generator=generator)[:each].to(of_image.device)])
            run.on_step(Step(epoch=0, epochs=1, step=i, steps=len(batches), loss=0.0))
        drawn = filled(torch.cat(pool), len(positions) * len(pool[0])).to(device)  # a rehearsal reads the first images only
        pool.clear()
        drawn = drawn[torch.randperm(len(drawn), generator=generator)[:wanted].to(device)]
        if self.hyper.bank == "coreset":
            projection = torch.randn(drawn.shape[1], PROJECTED, generator=generator).to(device) / PROJECTED**0.5
            batches = partial(run.batches, "choosing the bank", size=CHOSEN_AT_ONCE, unit="rows")
            drawn = drawn[spread(drawn @ projection, size, run.seed, batches)]
        self.bank.copy_(filled(drawn, size))

    def fit_bytes(self) -> int:
        """The cells that the bank is chosen from, twice while they are put into one tensor."""
        return 2 * POOL * self.bank.numel() * self.bank.element_size()

    def score_features(self, maps: Maps) -> Scored:
        """A cell's anomaly is its Euclidean distance to the bank."""
        cells = distances_to(maps[0], self.frozen or searchable(self.bank))
        counted = self.own.only(cells)
        score = counted.amax(dim=(1, 2)) if self.hyper.score == "max" else top_mean(counted, self.hyper.top_share)
        return Scored(score, cells, embedding(self.levels[0].only(maps[0])))

    def freeze(self) -> Self:
        super().freeze()
        self.frozen = searchable(self.bank)
        return self


def _unit(x: Tensor) -> Tensor:
    """(B, C, h, w) with length 1 in every cell; computed as (B, cells, C), which is how the backbone's maps lie in memory."""
    rows = F.normalize(x.flatten(2).transpose(1, 2), dim=2)
    return rows.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C, h, w)
