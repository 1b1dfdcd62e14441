"""Patch SVDD: the distance of every patch to the nearest patch of good images (Yi and Yoon 2020, arXiv:2006.16067).

Its encoder of small convolutions is trained from scratch, so it needs no pretrained weights and no backbone.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Scored
from models.features.embedding import embedding
from models.features.whitening import Moments, Whitening
from models.fitting.loop import TrainingConfig, train
from models.maps.grids import Maps
from models.maps.scores import top_mean
from models.patches.counted import padded_side, patches_of, repeated, spread_over
from models.patches.encoder import EMBEDDING, LARGE, LARGE_STRIDE, SMALL, EncoderHier, initialise
from models.patches.nearest import CHOSEN_AT_ONCE, Bank, distances_to, filled, searchable, spread
from models.patches.training import Draws, PatchTasks, PatchTraining
from models.prepared import Prepared
from models.roi.cells import Cells, pixels_inside

POOL = 4  # a coreset is chosen from this many times its rows
BANK_SIZES = {"random": 100_000, "coreset": 10_000}  # a coreset's time grows as the square of its size
READ_IMAGES = 16


class PatchSvddConfig(BaseModel):
    """Hyper-parameters.

    map: large, the distances of the 64-pixel patches, or the original's product, these times the distances of the 32-pixel
    patches, whose encoder tells less of a texture (docs/accuracy-grounds.md). stride: between the 32-pixel patches, pixels
    (original: 4); between the 64-pixel ones it is 16. The smaller stride in use is the side of a map's cell. whiten_floor:
    the least eigenvalue that embeddings are whitened by before they are compared (models/features/whitening.py); None, the
    original's, compares them as they are. bank_size: vectors kept per patch size; None takes BANK_SIZES (the original keeps
    all). With 100,000, the search for the map `product` costs four times the encoder. bank: random, of all patches of the
    training images, or coreset, chosen by greedy k-centre from POOL times as many random ones. exposure: removed subtracts an
    image's own mean, one for all colours; kept is the original's. score: top, the mean of the highest top_share of the map,
    or the original's max.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    map: Literal["large", "product"] = "large"
    stride: Literal[2, 4, 8, 16] = 4
    whiten_floor: float | None = Field(0.3, gt=0)
    bank_size: int | None = Field(None, ge=2)
    bank: Literal["coreset", "random"] = "random"
    exposure: Literal["removed", "kept"] = "removed"
    score: Literal["top", "max"] = "top"
    top_share: float = Field(0.2, gt=0, le=1)


def build(config: ArtifactConfig) -> "PatchSvdd":
    """Patch SVDD untrained and without a bank; its config has every default filled in.

    >>> detector = build(ArtifactConfig(name="tile", backbone=None, hyperparameters={"bank_size": 100}))
    >>> detector.large_bank.shape, detector.config.map_width
    (torch.Size([100, 64]), 16)
    """
    return PatchSvdd(config)


class _Frozen(NamedTuple):
    """What scoring reads, made once by `freeze`: the encoder in its precision (in a tuple, so that it is no module of the
    detector) and the banks of every patch size."""

    encoder: tuple[EncoderHier]
    banks: tuple[Bank, ...]


class PatchSvdd(Prepared, Detector):
    Training = PatchTraining
    # Features are the pixels: to read them again costs no more than to store them a second time.
    reads_often = False
    mean_image: Tensor
    pixel_std: Tensor
    small_bank: Tensor
    large_bank: Tensor
    patches: Sequence[Cells]  # of every size whose distances make the map

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = PatchSvddConfig.model_validate(config.hyperparameters)
        bank_size = hyper.bank_size or BANK_SIZES[hyper.bank]
        self.hyper = hyper = hyper.model_copy(update={"bank_size": bank_size})
        height, width = config.input.height, config.input.width
        # Large patches are made of small ones, which are needed at every stride pixels.
        self.stride = stride = hyper.stride if hyper.map == "product" else LARGE_STRIDE
        self.config = config.filled_in(hyper, None, (-(-height // stride), -(-width // stride)))
        seen = pixels_inside(config.input)
        self.see([Cells(seen, (height, width))], (-(-height // stride), -(-width // stride)))
        padded = None if seen is None else repeated(seen)
        covers = [(LARGE, LARGE_STRIDE), (SMALL, stride)][: len(self._sizes)]
        patches: Any = nn.ModuleList(patches_of(padded, height, width, *cover) for cover in covers)
        self.patches = patches
        self.encoder = self._new_encoder(seed=0)
        self.register_buffer("mean_image", torch.zeros(3, height, width))
        self.register_buffer("pixel_std", torch.tensor(255.0))
        self.whitening = None if hyper.whiten_floor is None else Whitening(len(self._sizes), EMBEDDING, EMBEDDING)
        self.register_buffer("small_bank", torch.zeros(bank_size if hyper.map == "product" else 0, EMBEDDING))
        self.register_buffer("large_bank", torch.zeros(bank_size, EMBEDDING))

        self.frozen: _Frozen | None = None

    def _scoring_encoder(self) -> EncoderHier:
        return copy.deepcopy(self.encoder).half() if self.config.precision == "fp16" else self.encoder

    def freeze(self) -> "PatchSvdd":
        super().freeze()
        with torch.no_grad():
            self.frozen = _Frozen((self._scoring_encoder(),), tuple(map(searchable, self._banks)))
        return self

    @property
    def _sizes(self) -> tuple[int, ...]:
        """The patch sizes whose distances make the map."""
        return (LARGE, SMALL) if self.hyper.map == "product" else (LARGE,)

    @property
    def _banks(self) -> tuple[Tensor, ...]:
        return (self.large_bank, self.small_bank)[: len(self._sizes)]

    def _new_encoder(self, seed: int) -> EncoderHier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = EncoderHier()
            initialise(encoder)
        return encoder.to(memory_format=torch.channels_last)

    def _normalised(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, 0 to 255 as they are: the mean image is known only after fit."""
        return images.permute(0, 3, 1, 2).float()  # (B, 3, H, W), in channels_last memory

    def features(self, inputs: Tensor) -> Maps:
        return [self.seen(inputs)]

    def _centred(self, pixels: Tensor) -> Tensor:
        """Pixels minus the mean image and the mean of the rest, scaled to variance 1 over the training images (original: to a
        range of 1). The last row and column are repeated up to a multiple of 16. Pixels outside the region of interest are 0.

        The original's patches leave up to 15 pixels at those borders unseen if the size is not such a multiple.
        """
        height, width = pixels.shape[2:]
        rows, columns = (torch.arange(padded_side(size), device=pixels.device).clamp(max=size - 1) for size in (height, width))
        centred = pixels - self.mean_image
        if self.hyper.exposure == "removed":
            centred = centred - self.pixels.only(centred).mean((1, 2, 3), keepdim=True)
        centred = self.pixels.zeroed(centred / self.pixel_std)
        if len(rows) > height:
            centred = centred[:, :, rows]
        return centred[:, :, :, columns] if len(columns) > width else centred

    def encode(self, pixels: Tensor) -> Maps:
        """Embeddings of all patches of the sizes in use, before whitening, float32: (B, 3, H, W) pixels to large
        (B, 64, h, w) and, for the map `product`, small (B, 64, h', w')."""
        images = self._centred(pixels).contiguous(memory_format=torch.channels_last)
        # A CPU takes one image per pass: its activations stay in the cache, and nothing depends on the batch.
        parts = images.split(1) if images.device.type == "cpu" else [images]
        encoder = self.frozen.encoder[0] if self.frozen else self._scoring_encoder()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            found = [encoder.dense(part, self.stride) for part in parts]
        small, large = (torch.cat(maps) for maps in zip(*found, strict=True))
        return [large, small][: len(self._sizes)]

    def compared(self, pixels: Tensor) -> Maps:
        """Embeddings as they are compared with the banks."""
        maps = self.encode(pixels)
        return maps if self.whitening is None else self.whitening(maps)

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Fit mean image and scale, encoder, whitening and banks; for after_epoch, at most exam_images make the last two."""
        settings = run.training
        assert isinstance(settings, PatchTraining)
        self.forget()
        self.to(run.device)
        self._fit_pixels(features, positions, run)
        self.encoder = self._new_encoder(run.seed).to(run.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            dtype = torch.bfloat16 if self.config.precision == "bf16" else None
            tasks = PatchTasks(self.encoder, dtype, settings.pair_loss)
            initialise(tasks.large_positions)
            initialise(tasks.small_positions)
        tasks.to(run.device)
        seen = None if self.pixels.mask is None else repeated(self.pixels.mask.cpu()).numpy()
        draws = Draws(settings.distortion * 255 / float(self.pixel_std), run.seed, settings.pair_reach, seen)
        after_epoch = run.after_epoch
        if after_epoch is not None:
            examined = positions[:: -(-len(positions) // settings.exam_images)]

            def with_bank(epoch: int) -> bool:
                self._fit_banks(features, examined, run)
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
            draws=(draws,),
        )
        self._fit_banks(features, positions, run)

    @torch.no_grad()
    def _fit_pixels(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Mean image, and the standard deviation of what _centred leaves, in one pass in float64."""
        total = torch.zeros_like(self.mean_image, dtype=torch.float64)  # (3, H, W)
        squares, exposures = total.new_zeros(()), total.new_zeros(())
        count = 0
        for batch in run.batches("mean image", positions, READ_IMAGES):
            pixels = features.read(batch)[0].to(total.device, torch.float64)
            count += len(pixels)
            total += pixels.sum(0)
            pixels = self.pixels.only(pixels)
            squares += pixels.square().sum()
            exposures += pixels.mean((1, 2, 3)).square().sum()
        mean = total / count
        counted = self.pixels.only(mean)
        variance = squares / (count * counted.numel()) - counted.square().mean()
        if self.hyper.exposure == "removed":  # the exposure is the mean of the image minus the mean image
            variance -= exposures / count - counted.mean().square()
        self.mean_image.copy_(mean)
        self.pixel_std.copy_(variance.clamp(min=1).sqrt())  # at least one grey level, for images that are all alike

    @torch.no_grad()
    def _fit_banks(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Fit whitening and banks: draw equally many vectors of every image at random, then the bank's rows from all these.
        At most as many images are drawn as vectors are wanted, which bounds time and memory."""
        size = len(self.large_bank)
        wanted = size * (POOL if self.hyper.bank == "coreset" else 1)
        each = -(-wanted // len(positions))
        generator = torch.Generator().manual_seed(run.seed)
        if len(positions) > wanted:
            positions = positions[torch.randperm(len(positions), generator=generator)[:wanted]]
        pools: list[list[Tensor]] = [[] for _ in self._sizes]
        for batch in run.batches("making the bank", positions, READ_IMAGES):
            found = self.encode(features.read(batch)[0].to(self.mean_image.device))
            for pool, maps, patches in zip(pools, found, self.patches, strict=True):
                for of_image in patches.only(maps).flatten(2).transpose(1, 2):  # (patches, 64)
                    order = torch.randperm(len(of_image), generator=generator)[:each]
                    pool.append(of_image[order.to(of_image.device)])
        drawn = []
        for pool in pools:
            vectors = filled(torch.cat(pool), len(positions) * len(pool[0]))  # (N, 64); a rehearsal reads the first images only
            drawn.append(vectors[torch.randperm(len(vectors), generator=generator).to(vectors.device)])
        if self.whitening is not None:
            cells = [vectors.T[None, :, :, None] for vectors in drawn]  # (1, 64, N, 1) each
            moments = [Moments(EMBEDDING) for _ in cells]
            for moment, x in zip(moments, cells, strict=True):
                moment.update(x)
            assert self.hyper.whiten_floor is not None
            self.whitening.fit(moments, self.hyper.whiten_floor)
            drawn = [x[0, :, :, 0].T.contiguous() for x in self.whitening(cells)]
        batches = partial(run.batches, "choosing the bank", size=CHOSEN_AT_ONCE, unit="rows")
        for bank, vectors in zip(self._banks, drawn, strict=True):
            if self.hyper.bank == "coreset":
                vectors = vectors[spread(vectors[: POOL * size], size, run.seed, batches)]
            bank.copy_(filled(vectors, size))

    def score_features(self, maps: Maps) -> Scored:
        """A patch's anomaly is its Euclidean distance to the bank; a cell's is the mean over the patches that cover it."""
        stride = self.stride
        height, width = maps[0].shape[2:]
        found = self.compared(maps[0])
        size = padded_side(height) // stride, padded_side(width) // stride
        banks = self.frozen.banks if self.frozen else [searchable(bank) for bank in self._banks]
        cells = spread_over(self.patches[0], distances_to(found[0], banks[0]), LARGE // stride, LARGE_STRIDE // stride, size)
        if self.hyper.map == "product":
            cells = cells * spread_over(self.patches[1], distances_to(found[1], banks[1]), SMALL // stride, 1, size)
        cells = cells[:, : -(-height // stride), : -(-width // stride)]
        counted = self.own.only(cells)
        score = counted.amax(dim=(1, 2)) if self.hyper.score == "max" else top_mean(counted, self.hyper.top_share)
        return Scored(score, cells, embedding(self.patches[0].only(found[0])))
