"""CFLOW-AD: each level has a flow of a cell's features given its position (Gudovskiy et al. 2022, arXiv:2107.12571).

Differences from the authors' code (tests/golden/README.md section 3; cflow_reference_maps.py of the tests reproduces its maps):
- Their maps are relative to the largest likelihood of the whole test set. Here every level's likelihoods are relative to those
  of training images, measured at the end of fit, so that an image's score does not depend on the others.
- They take one optimiser step per fibre of 256 cells. Here a step takes a batch of images; its loss is the mean over levels
  and random cells.
- A cell's features are averaged with its neighbours' (Roth et al. 2022, PatchCore, section 3.1, arXiv:2106.08265) and
  PCA-whitened first, unless neighbourhood is (1,) and whiten_dims None; untrained flows are rotations.
- By default a cell's anomaly is the length of its latent vector, without the log-determinant of the likelihood.
"""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Scored
from models.features.embedding import embedding
from models.features.extractor import FeatureExtractor
from models.features.whitening import LevelWhitening, moments_of
from models.fitting.loop import TrainingConfig, train
from models.flows.position_flows import PositionFlows, sigmoid_loss
from models.maps.grids import Maps
from models.precision import layer_dtype
from models.roi.cells import Cells, pixels_inside

CALIBRATION_IMAGES = 128  # the levels' constants are measured on this many training images
CALIBRATION_BATCH = 16


class CFlowConfig(BaseModel):
    """Hyper-parameters. The original has taps at reductions 8, 16, 32 of a WideResNet-50, whiten_dims None, 128
    position_channels, 8 steps, clamp 1.9, map likelihood, score max.

    neighbourhood: side of the square of cells that a cell's features are averaged over, per level from the finest on; the
    last one holds for all further levels.
    whiten_dims: components kept per level, at most its channels; None reads the features as they are.
    map: latents, the mean over levels of (e - m_l) / s_l with e = |z|^2 / 2 C of a cell and m_l, s_l its mean and standard
    deviation over cells of training images; density, the same with e = -log p / C; or likelihood, 1 less the mean over
    levels of exp(t_l - e), e = -log p / C and t_l the training cells' least e. The log-determinant says how thinly a
    neighbourhood is populated, and rare texture is not a defect: defects stand out more without it (docs/accuracy-grounds.md).
    Levels are interpolated to the finest. score: the map's mean, so that a single rare cell does not decide, or its max.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbourhood: tuple[Literal[1, 3, 5, 7], ...] = Field((5, 3), min_length=1)
    whiten_dims: int | None = Field(256, ge=2)
    whiten_floor: float = Field(1e-3, gt=0)
    position_channels: int = Field(32, ge=4, multiple_of=4)
    steps: int = Field(8, ge=1)
    clamp: float = Field(1.9, gt=0)
    map: Literal["latents", "density", "likelihood"] = "latents"
    score: Literal["mean", "max"] = "mean"


class CFlowTraining(TrainingConfig):
    """cells: how many random cells a step reads per level, the same ones in every image; None reads all."""

    cells: int | None = Field(256, ge=1)


def build(config: ArtifactConfig) -> "CFlow":
    """CFLOW-AD with untrained flows; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> build(ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters={"steps": 1})).grids
    [(8, 8), (4, 4)]
    """
    return CFlow(config)


class CFlow(Detector):
    Training = CFlowTraining
    energy_mean: Tensor
    energy_std: Tensor
    energy_least: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = CFlowConfig.model_validate(config.hyperparameters)
        self.backbone = FeatureExtractor(config, default_reductions=(8, 16))
        channels, self.grids = self.backbone.channels, self.backbone.grids
        self.hyper = hyper
        self.map_grid = max(self.grids)
        self.config = config.filled_in(hyper, self.backbone.config, self.map_grid)
        seen = pixels_inside(config.input)
        self.see([Cells(seen, grid) for grid in self.grids], self.map_grid)
        self.whitening = None if hyper.whiten_dims is None else LevelWhitening(channels, hyper.whiten_dims)
        self.channels = channels if self.whitening is None else self.whitening.dims
        self.flows = self._new_flows(seed=0)
        for name, value in (("energy_mean", 0.0), ("energy_std", 1.0), ("energy_least", 0.0)):
            self.register_buffer(name, torch.full((len(channels),), value))

    def _new_flows(self, seed: int) -> PositionFlows:
        """The initial weights depend on the seed alone."""
        hyper, generator = self.hyper, torch.Generator().manual_seed(seed)
        flows = PositionFlows(self.channels, self.grids, hyper.position_channels, hyper.steps, generator, hyper.clamp)
        flows.set_layer_dtype(layer_dtype(self.backbone.precision))
        return flows

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """Backbone features before whitening, averaged over neighbours, per level (B, C_l, h_l, w_l)."""
        sides = self.hyper.neighbourhood
        return [
            F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)
            for x, side in zip(self.backbone(self.seen(inputs)), sides + sides[-1:] * len(self.grids), strict=False)
        ]

    def whitened(self, maps: Maps) -> Maps:
        """The flows' input, per level (B, k_l, h_l, w_l)."""
        return maps if self.whitening is None else self.whitening(maps)

    def energies(self, whitened: Maps) -> Maps:
        """e of every cell, per level (B, h_l, w_l), nats per dimension; higher is more anomalous."""
        rows = [_rows(x) for x in whitened]
        if self.hyper.map == "latents":
            found = [0.5 * z.square().mean(2) for z in self.flows.latents(rows)]
        else:
            found = [-x for x in self.flows(rows)]
        return [x.unflatten(1, grid) for x, grid in zip(found, self.grids, strict=True)]  # (B, h, w)

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Whitening in closed form, the flows by gradient steps, then the levels' constants."""
        training = run.training
        assert isinstance(training, CFlowTraining)
        if self.whitening is not None:
            self.whitening.fit(moments_of(features, positions, run, self.counted), self.hyper.whiten_floor)
        self.flows = self._new_flows(run.seed).to(run.device)
        generator = torch.Generator().manual_seed(run.seed)
        cells: list[Tensor] = []  # of the current step: the training loop prepares a batch, then takes its loss

        def prepare(maps: Maps) -> Maps:
            rows = [_rows(x) for x in self.whitened(maps)]
            drawn = [torch.randperm(level.count, generator=generator)[: training.cells] for level in self.levels]
            chosen = [level.places(numbers.sort().values) for level, numbers in zip(self.levels, drawn, strict=True)]
            cells[:] = [places.to(run.device) for places in chosen]
            return [x[:, places] for x, places in zip(rows, cells, strict=True)]  # (B, cells, k)

        def loss(rows: Maps) -> Tensor:
            return torch.stack([sigmoid_loss(x) for x in self.flows(rows, cells)]).mean()

        def after_epoch(epoch: int) -> bool:
            self._measure(features, positions, run)
            return run.after_epoch is not None and run.after_epoch(epoch)

        told = run if run.after_epoch is None else replace(run, after_epoch=after_epoch)
        train(self.flows, loss, prepare, features, positions, training, told, draws=(generator,))
        self._measure(features, positions, run)

    @torch.no_grad()
    def _measure(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Set the levels' constants from some training images, evenly spaced."""
        some = positions[:: -(-len(positions) // CALIBRATION_IMAGES)]
        batches = [
            self.counted(self.energies(self.whitened([x.to(run.device) for x in features.read(batch)])))
            for batch in run.batches("measuring the levels", some, CALIBRATION_BATCH)
        ]
        for level, parts in enumerate(zip(*batches, strict=True)):
            energies = torch.cat(parts).double()
            self.energy_mean[level] = energies.mean()
            self.energy_std[level] = energies.std()
            self.energy_least[level] = energies.min()

    def score_features(self, maps: Maps) -> Scored:
        whitened = self.whitened(maps)
        cells = self._map(self.energies(whitened))
        counted = self.own.only(cells)
        score = counted.amax(dim=(1, 2)) if self.hyper.score == "max" else counted.mean(dim=(1, 2))
        return Scored(score, cells, embedding(self.levels[0].only(whitened[0])))

    def _map(self, energies: Maps) -> Tensor:
        """(B, h, w) on the finest level's grid."""
        raised = []
        for level, (energy, seen) in enumerate(zip(energies, self.levels, strict=True)):
            if self.hyper.map != "likelihood":
                cells = (energy - self.energy_mean[level]) / self.energy_std[level]
            else:
                cells = 1 - torch.exp(self.energy_least[level] - energy)
            raised.append(seen.resized(cells, self.map_grid))
        return torch.stack(raised).mean(0)

    def freeze(self) -> "CFlow":
        super().freeze()
        self.flows.freeze()
        return self


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return x.flatten(2).transpose(1, 2)  # (B, cells, C)
