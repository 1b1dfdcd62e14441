"""CS-Flow on whitened multi-scale backbone features (Rudolph et al. 2021, arXiv:2110.02855)."""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from models.backbones.preprocess import pyramid
from models.config import ArtifactConfig
from models.detector import Features, FitRun, Positive, Scored
from models.features.embedding import embedding
from models.features.extractor import FeatureExtractor
from models.features.headed import JOINED, Headed, check_head, layers_of, score_of
from models.features.levels import Levels
from models.features.position_head import PositionHead, PositionHeadConfig
from models.features.whitening import Moments, Whitening, moments_of
from models.fitting.loop import TrainingConfig, train
from models.flows.cross_scale import CrossScaleFlow
from models.flows.likelihood import energy_cells, mean_score, nll_cells, nll_loss, scale_means
from models.maps.grids import Maps
from models.maps.scores import top_mean
from models.precision import layer_dtype
from models.roi.cells import Cells, pixels_inside


class CsFlowConfig(BaseModel):
    """Hyper-parameters.

    whiten_dims: components kept, at most the channels of the taps. kernels: one coupling block each.
    map: nll, the negative log-likelihood per channel of the finest scale's cells; or energy, their channel mean of z^2, the
    original's, which the couplings shrink where they meet what they have not seen. head: what makes the map finer, beside
    the flow; None, as in the original, leaves the map to the flow.
    score: mean of z^2 / 2 over all elements, the original's; joined, half the deviation of that mean's logarithm from
    held-out good images and half that of the joined map's highest cells; top, the mean of the largest energies of cells,
    top_share of them; mean_top, the geometric mean of mean and top; max, the largest; or scales: the mean over scales of
    (log m_s - a_s) / b_s with m_s the scale's mean and a_s, b_s from held-out good images. None takes joined beside a head,
    and mean without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scales: int = Field(3, ge=1)
    downscale: Literal["area", "nearest"] = "area"
    whiten_dims: int = Field(128, ge=2)
    whiten_floor: float = Field(1e-3, gt=0)
    hidden: int = Field(128, ge=1)
    kernels: tuple[Literal[1, 3, 5, 7], ...] = Field((3, 3, 3, 3), min_length=1)
    clamp: float = 3.0
    map: Literal["nll", "energy"] = "nll"
    head: PositionHeadConfig | None = PositionHeadConfig()
    score: Literal["joined", "mean", "top", "mean_top", "max", "scales"] | None = None
    top_share: float = Field(0.04, gt=0, le=1)

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        check_head(self.head, self.score, self.map, joins="nll")
        return self


class CsFlowTraining(TrainingConfig):
    """The original takes 240 epochs of 16 images at the constant rate 2e-4 with weight decay 1e-5, on raw features."""

    epochs: int = Field(6, ge=1)
    epoch_steps: int = Field(34, ge=0)


def build(config: ArtifactConfig) -> "CsFlow":
    """CS-Flow with untrained flows; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> small = {"hidden": 8, "kernels": (3,), "scales": 2}
    >>> build(ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters=small)).grids
    [(4, 4), (2, 2)]
    """
    return CsFlow(config)


class CsFlow(Headed):
    Training = CsFlowTraining
    scale_log_mean: Tensor
    scale_log_std: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = CsFlowConfig.model_validate(config.hyperparameters)
        height, width = config.input.height, config.input.width
        self.backbone = FeatureExtractor(config, scales=hyper.scales, **layers_of(hyper.head))
        channels = sum(self.backbone.channels)
        score = score_of(hyper.score, hyper.head)
        self.weighs = score in (JOINED, "scales")
        self.positive = Positive(score=not self.weighs, map=hyper.map == "energy")
        self.grids = [min(grids) for grids in self.backbone.scale_grids]  # as `_stacked` joins them
        seen = pixels_inside(config.input)
        joins = score == JOINED
        self.head = head = PositionHead.beside(self.backbone, hyper.head, self.grids[0], seen, joins) if hyper.head else None
        dims = min(hyper.whiten_dims, channels)
        self.hyper = hyper = hyper.model_copy(update={"whiten_dims": dims, "head": head and head.config, "score": score})
        for (rows, columns), lower in zip(self.grids, self.grids[1:], strict=False):
            if lower != (-(-rows // 2), -(-columns // 2)):
                raise ValueError(
                    f"image size must give feature maps that halve from scale to scale; {height} x {width} gives "
                    f"{self.grids}. Use a multiple of the backbone's reduction times {2 ** (hyper.scales - 1)}."
                )
        self.config = config.filled_in(hyper, self.backbone.config, head.grid if head else self.grids[0])
        self.see(
            [Cells(seen, grid) for grid in [*self.grids, *([head.own_grid] if head else [])]],
            head.grid if head else self.grids[0],
        )
        self.whitening = Whitening(hyper.scales, channels, hyper.whiten_dims)
        self.flow = self._new_flow(seed=0)
        self.register_buffer("scale_log_mean", torch.zeros(hyper.scales))  # a_s
        self.register_buffer("scale_log_std", torch.ones(hyper.scales))  # b_s

    def _new_flow(self, seed: int) -> CrossScaleFlow:
        """The initial weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hyper = self.hyper
            flow = CrossScaleFlow(hyper.whiten_dims, hyper.scales, hyper.hidden, hyper.kernels, hyper.clamp)
        flow.see_only(self.levels[: hyper.scales])
        flow.to(memory_format=torch.channels_last)
        flow.set_conv_dtype(layer_dtype(self.backbone.precision))
        return flow

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """Backbone features before whitening, per scale (B, C, h_i, w_i). Several taps are averaged to the cells of the
        coarsest and stacked. Those of the head come last."""
        own = len(self.backbone.channels)
        levels = [self.backbone(level) for level in pyramid(self.seen(inputs), self.hyper.scales, self.hyper.downscale)]
        of_flow = [_stacked(maps[:own]) for maps in levels]
        return of_flow if self.head is None else [*of_flow, self.levels[-1].zeroed(self.head.features(levels[0][own:]))]

    def fit_whitening(self, moments: list[Moments]) -> None:
        """Set the whitening from the moments of extract's maps over the training images, one per scale."""
        self.whitening.fit(moments, self.hyper.whiten_floor)

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Whitening and head in closed form, then the flow by maximum likelihood."""
        training = run.training
        assert isinstance(training, CsFlowTraining)
        of_flow = Levels(features, slice(self.hyper.scales))
        self.fit_whitening(moments_of(of_flow, positions, run, self.counted))
        self.flow = self._new_flow(run.seed).to(run.device)

        def loss(maps: Maps) -> Tensor:
            latents, log_det_jac = self.flow(maps)
            return nll_loss(self.counted(latents), log_det_jac)

        def fit_flow(told: FitRun) -> None:
            train(self.flow, loss, self.whitened, of_flow, positions, training, told)

        self._fit_beside(fit_flow, features, positions, run)

    def whitened(self, maps: Maps) -> Maps:
        """The flow's input, per scale (B, k, h_i, w_i); 0, the mean, where no cell counts: a flow of zeros stays zero there."""
        return [cells.zeroed(x) for cells, x in zip(self.levels[: len(maps)], self.whitening(maps), strict=True)]

    @torch.no_grad()
    def fit_constants(self, features: Features, held_out: Tensor) -> dict[str, Tensor]:
        """The weights of the score `joined`; a_s and b_s of `scales`."""
        if self.hyper.score != "scales":
            return super().fit_constants(features, held_out)
        device = self.whitening.weight.device
        parts = []
        for batch in held_out.split(16):
            maps = self.whitened([x.to(device) for x in features.read(batch)[: self.hyper.scales]])
            parts.append(scale_means(self.counted(self.flow.latents(maps))).cpu())
        self.fit_scales(torch.cat(parts))
        return {name: getattr(self, name).clone() for name in ("scale_log_mean", "scale_log_std")}

    def fit_scales(self, means: Tensor) -> None:
        """Set a_s and b_s of the score `scales` from m_s of held-out good images, (N, scales)."""
        logs = means.double().log()
        self.scale_log_mean.copy_(logs.mean(0))
        self.scale_log_std.copy_(logs.std(0))

    def score_features(self, maps: Maps) -> Scored:
        whitened = self.whitened(maps[: self.hyper.scales])
        score, cells = self._of_flow(whitened)
        score, cells = self._joined(score, cells, maps)
        return Scored(score, cells, embedding(self.levels[0].only(whitened[0])))

    def _of_flow(self, whitened: Maps) -> tuple[Tensor, Tensor]:
        """The flow's own score, (B,), and map, (B, h_0, w_0)."""
        if self.hyper.map == "nll":
            latents, log_det_jac = self.flow.with_cell_log_det(whitened)
            return self._score(latents), nll_cells(latents[0], log_det_jac)
        latents = self.flow.latents(whitened)
        return self._score(latents), energy_cells(latents)

    def _alone(self, maps: Maps) -> tuple[Tensor, Tensor]:
        return self._of_flow(self.whitened(maps))

    def _score(self, latents: Maps) -> Tensor:
        """(B,), from the latents alone: the log-determinant makes image scores worse (docs/accuracy-grounds.md)."""
        counted = self.counted(latents)
        if self.hyper.score in ("mean", JOINED):
            return mean_score(counted)
        if self.hyper.score == "scales":
            return ((scale_means(counted).log() - self.scale_log_mean) / self.scale_log_std).mean(1)
        cells = energy_cells(counted)
        if self.hyper.score == "max":
            return cells.amax(dim=(1, 2))
        top = top_mean(cells, self.hyper.top_share)
        return top if self.hyper.score == "top" else (mean_score(counted) * top).sqrt()

    def freeze(self) -> Self:
        super().freeze()
        self.flow.freeze()
        return self


def _stacked(taps: Maps) -> Tensor:
    """All taps on the cells of the coarsest, (B, C, h, w)."""
    if len(taps) == 1:
        return taps[0]
    rows, columns = min((x.shape[2], x.shape[3]) for x in taps)
    return torch.cat([x if x.shape[2:] == (rows, columns) else F.adaptive_avg_pool2d(x, (rows, columns)) for x in taps], 1)
