"""FastFlow on the levels of a convolutional backbone or on blocks of a vision transformer (Yu et al. 2021, arXiv:2111.07677).

The exact semantics are those of the best-known unofficial code, tests/golden/README.md section 4. The defaults here differ:
levels are whitened, without a LayerNorm; the score is the mean of z^2 and the map the negative log-likelihood, which do not
saturate; the loss is per latent element.
"""

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from models.config import ArtifactConfig
from models.detector import Features, FitRun, Positive, Scored
from models.features.embedding import embedding
from models.features.extractor import FeatureExtractor
from models.features.headed import JOINED, Headed, check_head, layers_of, score_of
from models.features.levels import Levels
from models.features.position_head import PositionHead, PositionHeadConfig
from models.features.whitening import LevelWhitening, moments_of
from models.fitting.loop import TrainingConfig, train
from models.flows.level_flows import LevelFlows, energy_map, likelihood_map, nll_map
from models.flows.likelihood import nll_loss, scale_means
from models.maps.grids import Maps
from models.precision import layer_dtype
from models.roi.cells import Cells, pixels_inside


class FastFlowConfig(BaseModel):
    """Hyper-parameters; brackets hold the reference's. If no taps are named, the levels are those of stride 8 and 16 [4, 8,
    16: the finest takes three quarters of the arithmetic].

    whiten_dims: components kept of every level, at most its channels; None puts a trainable LayerNorm over (C, h, w) in
    the whitening's place [None]. steps: coupling blocks per level [8; 20 on transformers]. kernels: of the blocks in turn
    [3 on ResNet-18; 3, 1 on larger networks]. hidden_ratio: channels inside a subnet over those it reads [1; 0.16 on
    transformers]. map: nll, the mean over the levels of the negative log-likelihood per channel; energy, of the channel mean
    of z^2; or likelihood, one minus the mean over the levels of exp(-mean_c z^2 / 2) [less 1]. score: mean, over the levels,
    of the mean of z^2 / 2 over a level's elements, so that every level has the same weight whatever its size; max, the
    largest cell of the flow's map [max]; or joined, half the deviation of the mean's logarithm from held-out good images and
    half that of the joined map's highest cells; None takes joined beside a head, and mean without. head: what makes the map
    finer, beside the flow; None leaves the map to the flow [None].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    whiten_dims: int | None = Field(128, ge=2)
    whiten_floor: float = Field(1e-3, gt=0)
    steps: int = Field(8, ge=1)
    kernels: tuple[Literal[1, 3, 5, 7], ...] = Field((3, 1), min_length=1)
    hidden_ratio: float = Field(1.0, gt=0)
    clamp: float = Field(2.0, gt=0)
    map: Literal["nll", "energy", "likelihood"] = "nll"
    score: Literal["joined", "mean", "max"] | None = None
    head: PositionHeadConfig | None = PositionHeadConfig()

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        check_head(self.head, self.score, self.map, joins="nll")
        return self


class FastFlowTraining(TrainingConfig):
    """The reference takes 500 epochs in batches of 32, Adam at 1e-3 with weight decay 1e-5, and does not limit the gradient."""

    epochs: int = Field(14, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-5, ge=0)


def build(config: ArtifactConfig) -> "FastFlow":
    """FastFlow with untrained flows; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> build(ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters={"steps": 1})).config.map_height
    8
    """
    return FastFlow(config)


class FastFlow(Headed):
    Training = FastFlowTraining

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = FastFlowConfig.model_validate(config.hyperparameters)
        self.backbone = FeatureExtractor(config, (8, 16), **layers_of(hyper.head))
        energy = hyper.map == "energy"
        score = score_of(hyper.score, hyper.head)
        self.weighs = score == JOINED
        self.positive = Positive(score=energy or score == "mean", map=energy)
        self.grids = self.backbone.grids
        self.finest = max(range(len(self.grids)), key=lambda level: self.grids[level][0] * self.grids[level][1])
        grid = self.grids[self.finest]
        seen = pixels_inside(config.input)
        self.head = head = PositionHead.beside(self.backbone, hyper.head, grid, seen, self.weighs) if hyper.head else None
        self.hyper = hyper = hyper.model_copy(update={"head": head and head.config, "score": score})
        self.config = config.filled_in(hyper, self.backbone.config, head.grid if head else grid)
        if seen is not None and hyper.whiten_dims is None:
            raise ValueError(
                "whiten_dims must be a number for a model with a region of interest, since a LayerNorm reads all cells; "
                "got None. Leave it out."
            )
        self.see([Cells(seen, each) for each in [*self.grids, *([head.own_grid] if head else [])]], head.grid if head else grid)
        self.whitening = None if hyper.whiten_dims is None else LevelWhitening(self.backbone.channels, hyper.whiten_dims)
        self.flow = self._new_flow(seed=0)

    def _new_flow(self, seed: int) -> LevelFlows:
        """The initial weights depend on the seed alone.

        Whitened features are near standard normal, so a flow that starts as a permutation starts near its goal; one that
        starts from random couplings multiplies rare features by orders of magnitude in a dozen epochs.
        """
        hyper = self.hyper
        flow = LevelFlows(
            self.backbone.channels if self.whitening is None else self.whitening.dims,
            [hyper.kernels[step % len(hyper.kernels)] for step in range(hyper.steps)],
            hyper.hidden_ratio,
            torch.Generator().manual_seed(seed),
            hyper.clamp,
            norm_grids=self.grids if self.whitening is None else None,
        )
        if self.whitening is not None:
            flow.start_as_permutation()
        flow.see_only(self.levels[: len(self.grids)])
        flow.set_layer_dtype(layer_dtype(self.backbone.precision))
        return flow

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """The taps as they are, one level each; what the head reads comes last."""
        maps = self.backbone(self.seen(inputs))
        own = len(self.grids)
        return maps if self.head is None else [*maps[:own], self.levels[-1].zeroed(self.head.features(maps[own:]))]

    def whitened(self, maps: Maps) -> Maps:
        """The flow's input: the features themselves if the flow has a LayerNorm; 0, the mean, where no cell counts."""
        if self.whitening is None:
            return maps
        return [cells.zeroed(x) for cells, x in zip(self.levels[: len(maps)], self.whitening(maps), strict=True)]

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Whitening and head in closed form, then the flows by maximum likelihood.

        The loss is the reference's, a sum over all elements of all levels, divided by their number: a learning rate and a
        limit of the gradient then mean the same at every image size and number of channels.
        """
        training = run.training
        assert isinstance(training, TrainingConfig)
        of_flow = Levels(features, slice(len(self.grids)))
        if self.whitening is not None:
            self.whitening.fit(moments_of(of_flow, positions, run, self.counted), self.hyper.whiten_floor)
        self.flow = self._new_flow(run.seed).to(run.device)

        def loss(maps: Maps) -> Tensor:
            latents, log_det_jac = self.flow(maps)
            return nll_loss(self.counted(latents), log_det_jac)

        def fit_flow(told: FitRun) -> None:
            train(self.flow, loss, self.whitened, of_flow, positions, training, told)

        self._fit_beside(fit_flow, features, positions, run)

    def score_features(self, maps: Maps) -> Scored:
        read = self.flow.normed(self.whitened(maps[: len(self.grids)]))
        score, cells = self._of_flow(read)
        score, cells = self._joined(score, cells, maps)
        return Scored(score, cells, embedding(self.levels[self.finest].only(read[self.finest])))

    def _of_flow(self, read: Maps) -> tuple[Tensor, Tensor]:
        """The flow's own score, (B,), and map, (B, h, w) on the finest level."""
        latents, cells = self._latents_and_cells(read)
        if self.hyper.score == "max":
            return self.levels[self.finest].only(cells).amax(dim=(1, 2)), cells
        return scale_means(self.counted(latents)).mean(1), cells

    def _latents_and_cells(self, read: Maps) -> tuple[Maps, Tensor]:
        """Latents of all levels, and the flow's own map."""
        size = self.grids[self.finest]
        if self.hyper.map == "nll":
            latents, log_dets = self.flow.cells_of_normed(read)
            return latents, nll_map(latents, log_dets, size, self.levels[: len(self.grids)])
        latents = self.flow.latents_of_normed(read)
        kind = energy_map if self.hyper.map == "energy" else likelihood_map
        return latents, kind(latents, size, self.levels[: len(self.grids)])

    def _alone(self, maps: Maps) -> tuple[Tensor, Tensor]:
        return self._of_flow(self.flow.normed(self.whitened(maps)))

    def freeze(self) -> Self:
        super().freeze()
        self.flow.freeze()
        return self
