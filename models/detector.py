"""What every detector offers to training and scoring."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from models.arithmetic import same_sums
from models.config import ArtifactConfig
from models.faults import ModelError
from models.features.shading import ShadingCorrection
from models.features.variation import check_varied
from models.fitting.checkpoint import Checkpoint
from models.maps.grids import Maps
from models.roi.cells import Cells, pixels_inside
from models.roi.region import FILL

P = TypeVar("P")


class NotFitted(ModelError):
    """A detector that was neither fitted nor given the state of a fitted one."""


class WrongImages(ModelError):
    """Images that are not of the model's input size, or not uint8 RGB."""


class Scored(NamedTuple):
    """score (B,) float32, raw, higher is more anomalous, NaN where it could not be computed; anomaly_map (B, h, w)
    float32; embedding (B, 32) float16."""

    score: Tensor
    anomaly_map: Tensor
    embedding: Tensor


class Positive(NamedTuple):
    """Whether a detector's score, and its map's values, are distances or energies: never negative, so that their logarithm is
    nearer to a normal distribution. Others are logarithms already, or sums of both signs."""

    score: bool
    map: bool


class Features(Protocol):
    """Where fit reads features: from disk (`models.features.store.FeatureStore`), or computed at every read."""

    def read(self, positions: Tensor) -> Maps:
        """The result of Detector.features for the images at the positions (B,), int64: per level (B, C_l, h_l, w_l)."""


@dataclass(frozen=True)
class Step:
    """One optimiser step. epoch (of epochs) and step (of the epoch's steps) count from 0; the detector defines the loss."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


class Work(NamedTuple):
    """Work between steps, such as whitening, and how much of it is done. unit: plural noun of what is counted."""

    what: str
    done: int
    total: int
    unit: str = "images"


@dataclass(frozen=True)
class FitRun:
    """How to fit, and which functions to call meanwhile.

    training: an instance of the detector's own Training. after_epoch: called with the epoch's number once the detector
    can score; True ends the training. checkpoint: where the fit goes on, and what keeps its state after every epoch.
    """

    training: BaseModel
    seed: int = 0
    device: str = "cpu"
    on_step: Callable[[Step], None] = lambda step: None
    on_work: Callable[[Work], None] = lambda work: None
    after_epoch: Callable[[int], bool] | None = None
    checkpoint: Checkpoint | None = None

    def batches(self, what: str, rows: Tensor, size: int, unit: str = "images") -> Iterator[Tensor]:
        """The rows, (N, ...), one of each unit, in parts of `size`; tells on_work how far they are.

        >>> from models.detectors.padim import PadimTraining
        >>> run = FitRun(PadimTraining(), on_work=lambda work: print(*work))
        >>> [len(part) for part in run.batches("whitening", torch.arange(3), size=2)]
        whitening 0 3 images
        whitening 2 3 images
        whitening 3 3 images
        [2, 1]
        """
        done = 0
        self.on_work(Work(what, 0, len(rows), unit))
        for part in self._gone_through(rows.split(size)):
            yield part
            done += len(part)
            self.on_work(Work(what, done, len(rows), unit))

    def epochs(self, numbers: Sequence[int]) -> Iterator[int]:
        """The epochs of the fit."""
        yield from numbers

    def steps(self, count: int) -> Iterator[int]:
        """The numbers of an epoch's steps."""
        yield from self._gone_through(range(count))

    def _gone_through(self, parts: Sequence[P]) -> Iterator[P]:
        """All parts; a rehearsal (models/fitting/rehearsal.py) goes through the first of them only."""
        yield from parts


class Detector(nn.Module):
    """A detector: a file of models/detectors subclasses this and returns an instance from `build`.

    Its state dict holds everything that scores depend on, backbone included. An image's result never depends on the
    images scored with it. Training keeps the `features` of an image between epochs, so that the backbone runs once.

    >>> from models import registry
    >>> from models.config import InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", input=size, batch_size=1, hyperparameters=few)
    >>> detector = registry.build(config)
    >>> _ = detector.load_state_dict(detector.state_dict())  # of a fitted one elsewhere
    >>> scored = detector.freeze().score(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))
    >>> scored.score.shape, scored.anomaly_map.shape, scored.embedding.shape
    (torch.Size([3]), torch.Size([3, 4, 4]), torch.Size([3, 32]))
    """

    Training: ClassVar[type[BaseModel]]  # settings of fit; has `epochs` where fit has epochs
    positive: Positive = Positive(False, False)
    weighs = False  # whether `fit_constants` weighs the parts of its score, which takes enough held-out images
    reads_often: ClassVar[bool] = True  # fit reads an image once an epoch, so its features are worth storing
    config: ArtifactConfig  # with every default filled in, the map's size among them
    pixels: Cells  # of the model's input
    levels: Sequence[Cells]  # of every map of `features`
    own: Cells  # of the detector's own map
    fill: Tensor | None  # a pixel outside the region of interest, normalised, (1, 3, 1, 1)
    shading: ShadingCorrection | None  # what images go through first
    fitted = False  # set by fit and load_state_dict; a fresh detector would score every image 0

    def __init__(self) -> None:
        super().__init__()
        self.pixels = self.own = self.map_cells = Cells(None, (0, 0))  # until `see` is called, all count
        self.register_buffer("fill", None, persistent=False)
        self.shading = None

    def see(self, levels: Sequence[Cells], own_grid: tuple[int, int]) -> None:
        """Set which pixels and cells count: all, or those of the config's region of interest. A detector calls it in its own
        __init__, with its config set, and reads `seen`, `counted` and the cells; one that does not has no such models.

        Args:
            levels: of every map of `features`.
            own_grid: rows and columns of the map of `score_features`.
        """
        seen, size = pixels_inside(self.config.input), self.config.input
        assert self.config.map_height is not None and self.config.map_width is not None
        self.pixels, self.own = Cells(seen, (size.height, size.width)), Cells(seen, own_grid)
        self.map_cells = Cells(seen, (self.config.map_height, self.config.map_width))
        modules: Any = nn.ModuleList(levels)
        self.levels = modules
        if size.shading_correction:
            self.shading = ShadingCorrection(seen, (size.height, size.width))
        outside = None if seen is None else self._normalised(torch.full((1, 1, 1, 3), FILL, dtype=torch.uint8))
        self.register_buffer("fill", outside, persistent=False)

    def seen(self, inputs: Tensor) -> Tensor:
        """Prepared images (B, 3, H, W) as `features` reads them: no pixel outside the region of interest differs."""
        if self.fill is None or self.pixels.mask is None:
            return inputs
        return torch.where(self.pixels.mask, inputs, self.fill)

    def counted(self, maps: Maps) -> Maps:
        """The cells that count of features or of their first levels, (B, C_l, n_l, 1) each; without a region of interest, the
        maps themselves."""
        if self.pixels.mask is None:
            return maps
        return [cells.only(x) for cells, x in zip(self.levels[: len(maps)], maps, strict=True)]

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB of the artifact's input size to normalised (B, 3, H, W) float32."""
        return self._normalised(images if self.shading is None else self.shading(images))

    def _normalised(self, images: Tensor) -> Tensor:
        """The detector's own part of prepare."""
        raise NotImplementedError

    def features(self, inputs: Tensor) -> Maps:
        """The maps that scores are computed from, per level (B, C_l, h_l, w_l), differentiable with respect to the inputs."""
        raise NotImplementedError

    def fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """Fit from scratch to the good images at the positions (N,), int64; an earlier fit has no influence.

        Sums have one order on every device: two fits give the same bits. Raises NoVariation for images that are all alike.
        """
        self.fitted = False
        check_varied(features.read, positions)
        after_epoch = run.after_epoch
        if after_epoch is not None:

            def able_to_score(epoch: int) -> bool:
                self.fitted = True
                with same_sums(False):  # scores and thresholds as scoring computes them
                    return after_epoch(epoch)

            run = replace(run, after_epoch=able_to_score)
        with same_sums(run.device != "cpu"):  # a CPU's have one order anyway
            self._fit(features, positions, run)
        self.fitted = True

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """The detector's own part of fit."""
        raise NotImplementedError

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        loaded = super().load_state_dict(*arguments, **options)
        self.fitted = True
        return loaded

    def fit_bytes(self) -> int:
        """The memory of what fit holds whatever the images and the batch, such as covariances; 0 if a batch takes more."""
        return 0

    def fit_file_bytes(self, images: int) -> int:
        """What fit writes to temporary files of its own."""
        return 0

    def score_features(self, maps: Maps) -> Scored:
        """Results of B images, differentiable; the map has the detector's own grid."""
        raise NotImplementedError

    def fit_constants(self, features: Features, held_out: Tensor) -> dict[str, Tensor]:
        """Set constants of the score from held-out good images at the positions (N,), and return copies of them under their
        names in the state dict; most detectors have none. A later fit leaves them unchanged."""
        return {}

    @torch.no_grad()
    def extract(self, images: Tensor) -> Maps:
        """Features of (B, H, W, 3) uint8 images without gradients, as a feature store keeps them. Raises WrongImages."""
        size = self.config.input
        wanted = (size.height, size.width, 3)
        if tuple(images.shape[1:]) != wanted or images.dtype != torch.uint8:
            raise WrongImages(
                f"images must be (N, {', '.join(map(str, wanted))}) uint8, the model's input; got {tuple(images.shape)} "
                f"{str(images.dtype).removeprefix('torch.')}. Resize them as the model's config says."
            )
        return self.features(self.prepare(images))

    @torch.inference_mode()
    def score(self, images: Tensor) -> Scored:
        """(N, H, W, 3) uint8 to the results of N images, in batches of exactly config.batch_size slots.

        An image with a feature that is not finite gets the score NaN: a limit inside a detector could turn an infinite
        feature into a finite score. The sum of a map shows such a feature: it is finite for finite features unless they come
        near the largest float32. Checking each feature by itself took a tenth of a PaDiM's time.

        Raises NotFitted, WrongImages.
        """
        if not self.fitted:
            raise NotFitted("detector must be fitted before it scores; got a fresh one. Fit it, or load a fitted one's state.")
        size = self.config.batch_size
        results = []
        for batch in images.split(size):
            count = len(batch)
            if count < size:
                batch = torch.cat([batch, batch.new_zeros(size - count, *batch.shape[1:])])
            maps = self.extract(batch)
            scored = self.score_features(maps)
            finite = torch.isfinite(torch.stack([x.sum((1, 2, 3)) for x in maps])).all(0)  # (B,)
            score = torch.where(finite, scored.score, torch.nan)
            scored = Scored(score, self.at_map_size(scored.anomaly_map), scored.embedding)
            results.append(Scored(*(part[:count] for part in scored)))
        return Scored(*(torch.cat(parts) for parts in zip(*results, strict=True)))

    def shown(self, cells: Tensor) -> Tensor:
        """(B, h, w) on the detector's own grid, as `at_map_size` shows it outside the region of interest."""
        return self.own.silenced(cells, self.config.map_threshold)

    def at_map_size(self, cells: Tensor) -> Tensor:
        """(B, h, w) on the detector's own grid to config.map_height x config.map_width. A cell outside the region of interest
        gets the least value of those inside, and no more than the map's threshold."""
        height, width = self.config.map_height, self.config.map_width
        assert height is not None and width is not None
        return self.map_cells.silenced(self.own.resized(cells, (height, width)), self.config.map_threshold)

    def freeze(self) -> Self:
        """Prepare for scoring: evaluation mode, no gradients, and weights in the types and layouts of the arithmetic."""
        self.eval().requires_grad_(False)
        return self
