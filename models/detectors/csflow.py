"""CS-Flow on whitened multi-scale backbone features (Rudolph et al. 2021, arXiv:2110.02855)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models import backbones
from models.config import ArtifactConfig
from models.detector import Scored
from models.embedding import embedding
from models.flows.cross_scale import CrossScaleFlow
from models.flows.likelihood import anomaly_map, mean_score, scale_means
from models.preprocess import normalise, pyramid
from models.whitening import Moments, Whitening

Maps = list[Tensor]
CPU_PIXELS_PER_PASS = 4 * 256 * 256


class CsFlowConfig(BaseModel):
    """Hyper-parameters.

    whiten_dims: components kept, at most the channels of the taps. kernels: one coupling block each.
    score: mean of z^2 / 2 over all elements (the original's), max of the map, or scales: the mean over scales of
    (log m_s - a_s) / b_s with m_s the scale's mean and a_s, b_s from held-out good images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scales: int = Field(3, ge=1)
    downscale: Literal["area", "nearest"] = "area"
    whiten_dims: int = Field(128, ge=2)
    whiten_floor: float = Field(1e-3, gt=0)
    hidden: int = Field(128, ge=1)
    kernels: tuple[Literal[1, 3, 5, 7], ...] = Field((3, 3, 3, 3), min_length=1)
    clamp: float = 3.0
    score: Literal["mean", "max", "scales"] = "mean"


def build(config: ArtifactConfig) -> "CsFlow":
    return CsFlow(config)


class CsFlow(nn.Module):
    scale_log_mean: Tensor
    scale_log_std: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = CsFlowConfig.model_validate(config.hyperparameters)
        height, width = config.input.height, config.input.width
        backbone = backbones.resolve(config.backbone)
        assert backbone.mean is not None and backbone.std is not None
        self.mean, self.std = backbone.mean, backbone.std
        self.precision = config.precision
        self.backbone = backbones.create(backbone, height, width)
        self.hyper = hyper
        taps = self.extract(torch.zeros(1, height, width, 3, dtype=torch.uint8))
        channels = taps[0].shape[1]
        self.hyper = hyper = hyper.model_copy(update={"whiten_dims": min(hyper.whiten_dims, channels)})
        self.grids = [(x.shape[2], x.shape[3]) for x in taps]
        for (rows, columns), lower in zip(self.grids, self.grids[1:], strict=False):
            if lower != (-(-rows // 2), -(-columns // 2)):
                raise ValueError(
                    f"image size must give feature maps that halve from scale to scale; {height} x {width} gives "
                    f"{self.grids}. Use a multiple of the backbone's reduction times {2 ** (hyper.scales - 1)}."
                )
        self.map_size = (config.map_height or self.grids[0][0], config.map_width or self.grids[0][1])
        # Every default filled in: what the artifact stores.
        self.config = config.model_copy(
            update={
                "backbone": backbone,
                "hyperparameters": hyper.model_dump(mode="json"),
                "map_height": self.map_size[0],
                "map_width": self.map_size[1],
            }
        )
        self.whitening = Whitening(hyper.scales, channels, hyper.whiten_dims)
        # Initial weights must not depend on how the backbone was made.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.backbone.seed)
            self.flow = CrossScaleFlow(hyper.whiten_dims, hyper.scales, hyper.hidden, hyper.kernels, hyper.clamp)
        self.flow.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.flow.set_conv_dtype(torch.bfloat16 if config.precision == "bf16" else None)
        self.register_buffer("scale_log_mean", torch.zeros(hyper.scales))  # a_s
        self.register_buffer("scale_log_std", torch.ones(hyper.scales))  # b_s

    @torch.no_grad()
    def extract(self, images: Tensor) -> Maps:
        """Backbone features before whitening.

        Args:
            images: (B, H, W, 3) uint8 RGB.
        Returns:
            per scale (B, C, h_i, w_i) float32; several taps are averaged to the coarsest one's cells and stacked.
        """
        levels = pyramid(normalise(images, self.mean, self.std), self.hyper.scales, self.hyper.downscale)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return [torch.cat([self._taps(part) for part in self._passes(level)]) for level in levels]

    def _taps(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, h, w) float32 in channels_last memory, all taps on the cells of the coarsest."""
        maps = self.backbone(images.contiguous(memory_format=torch.channels_last))
        rows, columns = min(tuple(x.shape[-2:]) for x in maps)
        maps = [x.float() for x in maps]
        maps = [x if x.shape[-2:] == (rows, columns) else F.adaptive_avg_pool2d(x, (rows, columns)) for x in maps]
        return torch.cat(maps, 1) if len(maps) > 1 else maps[0]

    def _passes(self, level: Tensor) -> Sequence[Tensor]:
        """The images in parts whose activations stay in a processor's cache; on a GPU all at once."""
        if level.device.type != "cpu":
            return [level]
        return level.split(max(1, CPU_PIXELS_PER_PASS // (level.shape[-2] * level.shape[-1])))

    def fit_whitening(self, moments: list[Moments]) -> None:
        """Set the whitening from the moments of extract's maps over the training images, one per scale."""
        self.whitening.fit(moments, self.hyper.whiten_floor)

    @torch.no_grad()
    def features(self, images: Tensor) -> Maps:
        """Whitened features, what the flow is trained on: (B, H, W, 3) uint8 to per scale (B, k, h_i, w_i) float32."""
        return self.whitening(self.extract(images))

    def fit_scales(self, means: Tensor) -> None:
        """Set a_s and b_s of the score `scales` from m_s of held-out good images, (N, scales)."""
        logs = means.double().log()
        self.scale_log_mean.copy_(logs.mean(0))
        self.scale_log_std.copy_(logs.std(0))

    def score_features(self, features: Maps) -> Scored:
        """Score whitened features. An image with a feature that is not finite gets the score NaN, never a number."""
        latents = self.flow.latents(features)
        cells = anomaly_map(latents)
        if self.hyper.score == "mean":
            score = mean_score(latents)
        elif self.hyper.score == "max":
            score = cells.amax(dim=(1, 2))
        else:
            score = ((scale_means(latents).log() - self.scale_log_mean) / self.scale_log_std).mean(1)
        # The couplings' limit of +-1e6 would turn an infinite feature into a finite score.
        finite = torch.stack([torch.isfinite(x).all(dim=3).all(dim=2).all(dim=1) for x in features]).all(0)  # (B,)
        score = torch.where(finite, score, torch.nan)
        size = self.map_size
        if size != cells.shape[1:]:
            cells = F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (B, h, w)
        return Scored(score, cells, embedding(features[0]))

    @torch.inference_mode()
    def score(self, images: Tensor) -> Scored:
        """(N, H, W, 3) uint8 to the results of N images, in batches of exactly config.batch_size slots."""
        size = self.config.batch_size
        results = []
        for batch in images.split(size):
            count = len(batch)
            if count < size:
                batch = torch.cat([batch, batch.new_zeros(size - count, *batch.shape[1:])])
            scored = self.score_features(self.features(batch))
            results.append(Scored(*(part[:count] for part in scored)))
        return Scored(*(torch.cat(parts) for parts in zip(*results, strict=True)))

    def freeze(self) -> "CsFlow":
        self.eval().requires_grad_(False)
        self.flow.freeze()
        return self
