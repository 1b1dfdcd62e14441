"""Patch SVDD: the distance of every patch to the nearest patch of good images (Yi and Yoon 2020, arXiv:2006.16067).

Its encoder of small convolutions is trained from scratch, so it needs no pretrained weights and no backbone.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Scored
from models.embedding import embedding
from models.nearest import filled, nearest, spread
from models.patch_encoder import EMBEDDING, LARGE, LARGE_STRIDE, SMALL, EncoderHier
from models.patch_maps import distribute
from models.patch_training import Draws, PatchTasks, PatchTraining
from models.training import TrainingConfig, train

Maps = list[Tensor]
POOL = 4  # a bank chosen for its spread is chosen from so many times its rows
READ_IMAGES = 16


class PatchSvddConfig(BaseModel):
    """Hyper-parameters.

    stride: between the 32-pixel patches, and the side of a map's cell, pixels; between the 64-pixel ones it is 16 (both as
    the original). bank_size: vectors kept of either patch size (the original keeps all). bank: coreset chooses by greedy
    k-centre from a random POOL times as many, random takes the first drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stride: Literal[2, 4, 8, 16] = 4
    bank_size: int = Field(10_000, ge=1)
    bank: Literal["coreset", "random"] = "coreset"


def build(config: ArtifactConfig) -> "PatchSvdd":
    return PatchSvdd(config)


class PatchSvdd(Detector):
    Training = PatchTraining
    # Features are the pixels: to read them again costs no more than to store them a second time.
    reads_often = False
    mean_image: Tensor
    small_bank: Tensor
    large_bank: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        self.hyper = hyper = PatchSvddConfig.model_validate(config.hyperparameters)
        height, width = config.input.height, config.input.width
        self.config = config.model_copy(
            update={
                "backbone": None,
                "hyperparameters": hyper.model_dump(mode="json"),
                "map_height": config.map_height or -(-height // hyper.stride),
                "map_width": config.map_width or -(-width // hyper.stride),
            }
        )
        self.encoder = self._new_encoder(seed=0)
        self.register_buffer("mean_image", torch.zeros(3, height, width))
        self.register_buffer("small_bank", torch.zeros(hyper.bank_size, EMBEDDING))
        self.register_buffer("large_bank", torch.zeros(hyper.bank_size, EMBEDDING))

    def _new_encoder(self, seed: int) -> EncoderHier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return EncoderHier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, 0 to 255 as they are: the mean image is known only after fit."""
        return images.permute(0, 3, 1, 2).float().contiguous()  # (B, 3, H, W)

    def features(self, inputs: Tensor) -> Maps:
        return [inputs]

    def _centred(self, pixels: Tensor) -> Tensor:
        """Pixels minus the mean image, scaled to a range of 1, the last row and column repeated up to a multiple of 16.

        The original's patches leave up to 15 pixels at those borders unseen where the size is no such multiple.
        """
        height, width = pixels.shape[2:]
        rows, columns = (torch.arange(_padded(size), device=pixels.device).clamp(max=size - 1) for size in (height, width))
        centred = (pixels - self.mean_image) / 255
        if len(rows) > height:
            centred = centred[:, :, rows]
        return centred[:, :, :, columns] if len(columns) > width else centred

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of all patches: (B, 3, H, W) pixels to small (B, 64, h, w) and large (B, 64, h', w'), float32."""
        images = self._centred(pixels).contiguous(memory_format=torch.channels_last)
        # On a CPU one image a pass: its activations stay in the cache, and nothing depends on the batch.
        parts = images.split(1) if images.device.type == "cpu" else [images]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            found = [self.encoder.dense(part, self.hyper.stride) for part in parts]
        small, large = (torch.cat(maps) for maps in zip(*found, strict=True))
        return small, large

    def fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Mean image, encoder, then the bank. For after_epoch the bank is made of at most exam_images images."""
        settings = run.training
        assert isinstance(settings, PatchTraining)
        self.to(run.device)
        self._fit_mean(features, positions)
        self.encoder = self._new_encoder(run.seed).to(run.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            dtype = torch.bfloat16 if self.config.precision == "bf16" else None
            tasks = PatchTasks(self.encoder, dtype).to(run.device)
        draws = Draws(settings.distortion, run.seed)
        after_epoch = run.after_epoch
        if after_epoch is not None:
            examined = positions[:: -(-len(positions) // settings.exam_images)]

            def with_bank(epoch: int) -> bool:
                self._fit_banks(features, examined, run.seed)
                return after_epoch(epoch)

            run = replace(run, after_epoch=with_bank)
        train(
            tasks,
            lambda patches: tasks(patches).total(settings.svdd_weight),
            lambda maps: draws(self._centred(maps[0])),
            features,
            positions.repeat(settings.pairs_per_image),
            TrainingConfig.model_validate(settings.model_dump(include=set(TrainingConfig.model_fields))),
            run,
        )
        self._fit_banks(features, positions, run.seed)

    @torch.no_grad()
    def _fit_mean(self, features: Features, positions: Tensor) -> None:
        total = torch.zeros_like(self.mean_image, dtype=torch.float64)
        for batch in positions.split(READ_IMAGES):
            total += features.read(batch)[0].to(total.device).sum(0, dtype=torch.float64)
        self.mean_image.copy_(total / len(positions))

    @torch.no_grad()
    def _fit_banks(self, features: Features, positions: Tensor, seed: int) -> None:
        """Both banks: as many vectors of every image, drawn at random, and of all these the bank's rows. Of more images than
        vectors are drawn, as many at random, so that time and memory have a bound."""
        size = self.hyper.bank_size
        wanted = size * (POOL if self.hyper.bank == "coreset" else 1)
        each = -(-wanted // len(positions))
        generator = torch.Generator().manual_seed(seed)
        if len(positions) > wanted:
            positions = positions[torch.randperm(len(positions), generator=generator)[:wanted]]
        drawn: tuple[list[Tensor], list[Tensor]] = ([], [])
        for batch in positions.split(READ_IMAGES):
            for pool, maps in zip(drawn, self.encode(features.read(batch)[0].to(self.mean_image.device)), strict=True):
                vectors = maps.flatten(2).transpose(1, 2)  # (B, patches, 64)
                for of_image in vectors:
                    order = torch.randperm(len(of_image), generator=generator)[:each]
                    pool.append(of_image[order.to(of_image.device)])
        for bank, pool in zip((self.small_bank, self.large_bank), drawn, strict=True):
            vectors = torch.cat(pool)
            vectors = vectors[torch.randperm(len(vectors), generator=generator).to(vectors.device)]
            if self.hyper.bank == "coreset":
                vectors = vectors[spread(vectors[: POOL * size], size, seed)]
            bank.copy_(filled(vectors, size))

    def score_features(self, maps: Maps) -> Scored:
        """The score is the largest value of the map, the map the product of the patch sizes' maps of Euclidean distances,
        each cell's averaged over the patches that cover it. The cells are stride x stride pixels."""
        stride = self.hyper.stride
        height, width = maps[0].shape[2:]
        small, large = self.encode(maps[0])
        size = _padded(height) // stride, _padded(width) // stride
        near = distribute(_distances(small, self.small_bank), SMALL // stride, 1, *size)
        far = distribute(_distances(large, self.large_bank), LARGE // stride, LARGE_STRIDE // stride, *size)
        cells = (near * far)[:, : -(-height // stride), : -(-width // stride)]
        return Scored(cells.amax(dim=(1, 2)), cells, embedding(large))


def _padded(size: int) -> int:
    """The least size from this one on that large patches cover without a rest, pixels."""
    return max(LARGE, -(-size // LARGE_STRIDE) * LARGE_STRIDE)


def _distances(maps: Tensor, bank: Tensor) -> Tensor:
    """Of every embedding to the bank: (B, 64, h, w) to (B, h, w). Image by image, so that nothing depends on the batch."""
    found = [nearest(vectors.flatten(1).T, bank)[0][:, 0] for vectors in maps]  # (h * w,) each
    return torch.stack(found).unflatten(1, maps.shape[2:])  # (B, h, w)
