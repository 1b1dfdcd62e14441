"""DifferNet: a RealNVP on the spatial means of turned copies' backbone features (Rudolph et al. 2021, arXiv:2008.12577).

The original turns its copies by random, unseeded angles, in testing too, so that its scores change from run to run. Here
fitting and scoring turn them by the same fixed angles, i * 360 / transforms degrees, and add their mirror images.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from models.backbones.preprocess import pyramid
from models.backbones.rotation import rotate, rotation_index
from models.config import ArtifactConfig
from models.detector import Features, FitRun, Positive, Scored
from models.features.embedding import embedding
from models.features.extractor import FeatureExtractor
from models.features.headed import JOINED, Headed, check_head, layers_of, score_of
from models.features.position_head import PositionHead, PositionHeadConfig
from models.features.store import StoredRows
from models.features.whitening import Moments, Whitening
from models.fitting.loop import TrainingConfig, train
from models.flows.likelihood import nll_loss
from models.flows.real_nvp import RealNvp
from models.maps.grids import Maps
from models.precision import layer_dtype
from models.roi.cells import Cells, pixels_inside, turned

READ_IMAGES = 32
SMOOTHING_PX = 3.0
SMOOTHING_KERNEL_PX = 25  # four standard deviations to either side


class DifferNetConfig(BaseModel):
    """Hyper-parameters.

    transforms: turned copies of an image; each passes the backbone, as do mirror images (original: 4 in training, 64 in
    testing). Four copies of a square image lose nothing and have no black corners. mirrored: each copy's mirror image is a
    copy too (not in the original). downscale: the original's is nearest. whiten_dims: components kept of the pooled
    features of all scales; None keeps the pooled features themselves, as the original does. hidden: width of the
    sub-networks (original: 2048). map: contribution, what every place adds to the score, to first order; or the original's
    gradient, which takes a backward pass through the backbone for every copy of every image, at a selection's epochs too.
    head: what makes the map contribution finer; None, as in the original, leaves the map to the flow. score: mean, of z^2
    over copies and features, the original's; or joined, half the deviation of its logarithm from held-out good images and
    half that of the joined map's highest cells; None takes joined beside a head, and mean without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transforms: int = Field(4, ge=1)
    mirrored: bool = True
    scales: int = Field(3, ge=1)
    downscale: Literal["area", "nearest"] = "area"
    whiten_dims: int | None = Field(256, ge=2)
    whiten_floor: float = Field(1e-3, gt=0)
    blocks: int = Field(8, ge=1)
    hidden: int = Field(256, ge=1)
    clamp: float = 3.0
    map: Literal["contribution", "gradient"] = "contribution"
    head: PositionHeadConfig | None = PositionHeadConfig()
    score: Literal["joined", "mean"] | None = None

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        check_head(self.head, self.score, self.map, joins="contribution")
        return self


class DifferNetTraining(TrainingConfig):
    """How the flow is fitted. A copy of an image is a few thousand numbers, so epochs are cheap.

    The original takes 192 epochs of 24 images, Adam at the constant rate 2e-4 with betas 0.8, eps 1e-4, weight decay 1e-5,
    no limit of the gradient and no averaging.
    """

    epochs: int = Field(24, ge=1)
    noise: float = Field(0.6, ge=0)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(1e-5, ge=0)


def build(config: ArtifactConfig) -> "DifferNet":
    """DifferNet with untrained flows; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> small = {"transforms": 2, "mirrored": False, "hidden": 8, "blocks": 2}
    >>> len(build(ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters=small)).turns)
    2
    """
    return DifferNet(config)


class _Rows:
    """What the flow reads of the training images, in its own file: the detector's features also hold every cell."""

    def __init__(self, folder: str, shape: tuple[int, ...]):
        self.rows = StoredRows(Path(folder) / "rows.bin", shape, np.float32)

    def read(self, positions: Tensor) -> Maps:
        return [self.rows.read(positions % len(self.rows))]  # a rehearsal writes the first rows only


class DifferNet(Headed):
    Training = DifferNetTraining
    turns: Tensor
    black: Tensor
    cell_mean: Tensor
    pools: Sequence[Sequence[Cells]]  # of every copy, the cells of its taps, scale by scale

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = DifferNetConfig.model_validate(config.hyperparameters)
        height, width = config.input.height, config.input.width
        self.backbone = FeatureExtractor(config, scales=hyper.scales, **layers_of(hyper.head))
        channels = sum(self.backbone.channels)
        self.pooled_features = channels * hyper.scales
        if hyper.whiten_dims is not None:
            hyper = hyper.model_copy(update={"whiten_dims": min(hyper.whiten_dims, self.pooled_features)})
        score = score_of(hyper.score, hyper.head)
        self.weighs = score == JOINED
        self.positive = Positive(score=not self.weighs, map=hyper.map == "gradient")
        if config.precision == "fp16" and hyper.map == "gradient":
            raise ValueError(
                "precision must be float32 or bf16 for the map gradient; got 'fp16', in which the pixels' gradients vanish. "
                "Choose the map contribution or another precision."
            )
        grid = self.backbone.grids[0] if hyper.map == "contribution" else (height, width)
        seen = pixels_inside(config.input)
        self.head = head = PositionHead.beside(self.backbone, hyper.head, grid, seen, self.weighs) if hyper.head else None
        self.hyper = hyper = hyper.model_copy(update={"head": head and head.config, "score": score})
        self.config = config.filled_in(hyper, self.backbone.config, head.grid if head else grid)
        turns = [rotation_index(height, width, 360 * i / hyper.transforms) for i in range(hyper.transforms)]
        if hyper.mirrored:
            turns += [x.view(height, width).flip(1).flatten() for x in turns]
        # Both follow from the config, so a state dict need not hold them.
        self.register_buffer("turns", torch.stack(turns), persistent=False)
        black = [-m / s for m, s in zip(self.backbone.mean, self.backbone.std, strict=True)]
        self.register_buffer("black", torch.tensor(black), persistent=False)
        of_map = self.backbone.grids if hyper.map == "contribution" else [(height, width)]
        of_map = [*of_map, *([head.own_grid] if head else [])]
        self.see([Cells(None, (len(turns), 1)), *(Cells(seen, each) for each in of_map)], head.grid if head else grid)
        pools: Any = nn.ModuleList(turned(seen, index, self.backbone.scale_grids) for index in turns)
        self.pools = pools
        self.whitening = None if hyper.whiten_dims is None else Whitening(1, self.pooled_features, hyper.whiten_dims)
        self.register_buffer("cell_mean", torch.zeros(channels))  # over the cells of upright good images at full size
        self.flow = self._new_flow(seed=0)

    def _new_flow(self, seed: int) -> RealNvp:
        """The initial weights depend on the seed alone."""
        hyper = self.hyper
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            flow = RealNvp(hyper.whiten_dims or self.pooled_features, hyper.blocks, hyper.hidden, hyper.clamp)
        flow.set_matmul_dtype(layer_dtype(self.backbone.precision))
        return flow

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """Pooled features of every copy, and what the map is made from.

        Returns:
            (B, F, T, 1): the spatial means of all taps at full size, then at 1/2, 1/4 ... of it; the T copies, turned ones
            and then their mirror images, are the cells. What the map is made from follows: the cells of the full-size
            upright image, per tap (B, C_t, h_t, w_t), or the inputs if the map is `gradient`; last what the head reads.
        """
        inputs, pooled = self.seen(inputs), []
        cells: Maps = []
        for turn in range(len(self.turns)):
            means, maps = self._pooled(inputs, turn)
            pooled.append(means)
            cells = cells or maps
        own = len(self.backbone.channels)
        found = [torch.stack(pooled, 2)[..., None], *(cells[:own] if self.hyper.map == "contribution" else [inputs])]
        return found if self.head is None else [*found, self.levels[-1].zeroed(self.head.features(cells[own:]))]

    def _pooled(self, inputs: Tensor, turn: int) -> tuple[Tensor, Maps]:
        """(B, F) of one copy, and its full-size maps, per tap (B, C_t, h_t, w_t), those that the head reads last."""
        if turn:  # copy 0 is the image itself
            inputs = rotate(inputs, self.turns[turn], self.black)
        levels = [self.backbone(level) for level in pyramid(inputs, self.hyper.scales, self.hyper.downscale)]
        pools, flat = self.pools[turn], [x for maps in levels for x in maps[: len(self.backbone.channels)]]
        return torch.cat([pool.only(x).mean((2, 3)) for pool, x in zip(pools, flat, strict=True)], 1), levels[0]

    def _whitened(self, pooled: Tensor) -> Tensor:
        """(B, F, T, 1) to the flow's input, (B, k, T, 1)."""
        return pooled if self.whitening is None else self.whitening([pooled])[0]

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Whitening and head in closed form, then the flow by maximum likelihood, over the copies of all images."""
        training = run.training
        assert isinstance(training, DifferNetTraining)
        moments, upright = Moments(self.pooled_features), torch.zeros(len(self.cell_mean), dtype=torch.float64)
        for part in run.batches("whitening", positions, READ_IMAGES):
            pooled = features.read(part)[0]
            moments.update(pooled)
            upright += pooled[:, : len(upright), 0, 0].double().sum(0).cpu()
        self.cell_mean.copy_(upright / len(positions))
        if self.whitening is not None:
            self.whitening.fit([moments], self.hyper.whiten_floor)
        self.flow = self._new_flow(run.seed).to(run.device)
        with tempfile.TemporaryDirectory(prefix="flowscore-rows-") as folder:
            rows = _Rows(folder, (self.hyper.whiten_dims or self.pooled_features, len(self.turns), 1))
            for part in run.batches("writing whitened features", positions, READ_IMAGES):
                rows.rows.append(self._whitened(features.read(part)[0].to(self.cell_mean.device)))
            every = torch.arange(len(positions))
            fit_flow = partial(train, self.flow, self._loss, lambda maps: maps, rows, every, training)
            self._fit_beside(fit_flow, features, positions, run)

    def fit_file_bytes(self, images: int) -> int:
        """The whitened copies, float32."""
        return 4 * images * (self.hyper.whiten_dims or self.pooled_features) * len(self.turns)

    def _loss(self, maps: Maps) -> Tensor:
        latents, log_det_jac = self.flow(_rows(maps[0]))
        return nll_loss([latents[:, :, None, None]], log_det_jac[:, None])

    def score_features(self, maps: Maps) -> Scored:
        score, cells = self._joined(*self._alone(maps if self.head is None else maps[:-1]), maps)
        return Scored(score, cells, embedding(self._whitened(maps[0])))

    def _alone(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Mean of z^2 over copies and features, as in the original, and the flow's own map."""
        pooled, *rest = maps
        cells = self._contributions(pooled, rest) if self.hyper.map == "contribution" else self._gradient_map(rest[0])
        return self._energy(self._whitened(pooled)), cells

    def freeze(self) -> Self:
        super().freeze()
        self.flow.freeze()
        return self

    def _energy(self, whitened: Tensor) -> Tensor:
        """Mean of z^2 of each image, (B,)."""
        return self.flow.latents(_rows(whitened)).view(len(whitened), -1).square().mean(1)  # (B, T * k) before the mean

    def _contributions(self, pooled: Tensor, cells: Maps) -> Tensor:
        """What every cell of the full-size upright image adds to that copy's score, to first order, (B, h, w).

        A pooled feature is the mean of its cells, so all cells share the score's gradient g with respect to it. A cell's part
        is g' (cell - typical cell), negative where it pulls the score down. With one tap, the mean over the cells is
        g' (pooled - typical), so the map has the score's size, and no backward pass through the backbone is needed. It is a
        class activation map (Zhou et al. 2016, arXiv:1512.04150) whose class weights are the image's own.
        """
        with torch.inference_mode(False), torch.enable_grad():
            # A clone made here can have a gradient even if the features were made in inference mode.
            upright = pooled[:, :, :1].clone().detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._energy(self._whitened(upright)).sum(), upright)
        gradient = gradient[:, : len(self.cell_mean), 0, 0]  # (B, C), C of all taps
        total = cells[0].new_zeros(len(pooled), *cells[0].shape[2:])
        channels = [x.shape[1] for x in cells]
        levels = self.levels[1 : 1 + len(cells)]
        parts = zip(cells, gradient.split(channels, 1), self.cell_mean.split(channels), levels, strict=True)
        for x, g, mean, seen in parts:
            part = torch.einsum("bc,bchw->bhw", g, x) - (g @ mean)[:, None, None]
            total = total + seen.resized(part, total.shape[1:])
        return total

    def _gradient_map(self, inputs: Tensor) -> Tensor:
        """The original's localisation, (B, H, W): the loss's gradient with respect to the pixels.

        Each copy's gradient is turned back and smoothed; the mean of its magnitude over copies and channels is squared. The
        original's loss is a mean over the batch, so its map shrinks with the batch; here every copy has its own loss. The
        original turns back by splines; here autograd does, which sends every value to the very pixel that was read.
        """
        total = inputs.new_zeros(len(inputs), *inputs.shape[2:])
        for turn in range(len(self.turns)):
            with torch.inference_mode(False), torch.enable_grad():
                pixels = inputs.clone().detach().requires_grad_()
                whitened = self._whitened(self._pooled(pixels, turn)[0][..., None, None])
                (gradient,) = torch.autograd.grad(self._loss([whitened]) * len(pixels), pixels)
            total = total + smoothed(self.pixels.zeroed(gradient)).abs().mean(1)  # (B, H, W)
        return (total / len(self.turns)).square()


def smoothed(maps: Tensor) -> Tensor:
    """(B, C, H, W), H and W above 12, under a Gaussian of 3 pixels, as the original smooths its gradients.

    >>> smoothed(torch.ones(1, 3, 16, 16)).mean().round(decimals=3)
    tensor(1.)
    """
    return gaussian_blur(maps, [SMOOTHING_KERNEL_PX] * 2, [SMOOTHING_PX] * 2)


def _rows(maps: Tensor) -> Tensor:
    """(B, k, T, 1) to one row per copy, (B * T, k); an image's copies are side by side."""
    return maps[..., 0].transpose(1, 2).flatten(0, 1)  # (B * T, k)
