"""The exam of a fit: held-out good images and synthetic defects made of them; their features are stored once, scored often."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.detector import Detector, Features, FitRun, Work
from models.features.store import ImageFeatures
from models.features.whitening import LevelWhitening, moments_of
from models.fitting import synthetic
from models.fitting.selection import ExamScores, choose_severity
from models.maps.content_box import boxes_at
from models.maps.grids import Maps

# An image is what the detector sees at once here, so it may be a tile of a larger one.
SEVERITY_IMAGES = 48  # how many selection images set the severities
GAUSSIAN_IMAGES = 256  # how many training images the Gaussian that sets severities is fitted to
GAUSSIAN_DIMS = 128
SEVERITIES_TRIED = 3  # of the ladder's seven, for every family
BATCH = 16


def defects_stored(selection: int) -> int:
    """How many synthetic defects are kept for so many selection images.

    >>> defects_stored(100)
    800
    """
    return len(synthetic.FAMILIES) * selection


def defects_drawn(selection: int) -> int:
    """How many are drawn, with those that only set severities.

    >>> defects_stored(100), defects_drawn(100)
    (800, 2000)
    """
    tried = len(range(selection)[_severity_images(selection)])
    return len(synthetic.FAMILIES) * SEVERITIES_TRIED * tried + defects_stored(selection)


def gaussian_images(fit_positions: Tensor) -> Tensor:
    """The training images that the Gaussian is fitted to, (K,) of (N,), evenly spaced.

    >>> gaussian_images(torch.arange(1000))[:3]
    tensor([0, 4, 8])
    """
    return fit_positions[:: -(-len(fit_positions) // GAUSSIAN_IMAGES)]


def _severity_images(selection: int) -> slice:
    return slice(None, None, max(1, selection // SEVERITY_IMAGES))


class Exam:
    """Selection images and synthetic defects made of them; their features are stored once and scored after every epoch.

    defects: family after family, in the order of the selection images; filled by `make`.
    severities: of each family; set by `make`, or by whoever opens defects that were kept.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> few, size = {"bank_size": 8}, InputConfig(height=64, width=64)
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "good") as images:
    ...     images.append(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    ...     with ImageFeatures(detector, Path(folder), "synthetic") as defects:
    ...         exam = Exam(detector, images, torch.arange(2, 4), defects, FitRun(detector.Training()))
    ...         made = exam.make(torch.arange(2))
    ...         len(defects), len(made.defects), made.good.shape
    (16, 8, (2,))
    """

    severities: dict[str, float]

    def __init__(self, detector: Detector, images: ImageFeatures, selection: Tensor, defects: ImageFeatures, run: FitRun):
        self.detector, self.images, self.selection, self.run = detector, images, selection, run
        self.defects = defects
        assert images.boxes is not None or detector.config.input.resize != "pad", "where padded images lie"

    def make(self, fit_positions: Tensor) -> ExamScores:
        """Make the defects; returns the scores of the Gaussian that sets their severities. It is fitted to the features of
        training images, so that severities do not depend on the epoch."""
        run = self.run
        counted = self.detector.counted
        few_goods = gaussian_images(fit_positions)
        moments = moments_of(self.images, few_goods, run, counted)
        whitening = LevelWhitening([len(moment.mean) for moment in moments], GAUSSIAN_DIMS)
        whitening.fit(moments)
        whitening.to(run.device)

        def gaussian(maps: Maps) -> Tensor:
            """The mean of z^2 / 2 over all elements, which is the score of an untrained flow on whitened features."""
            whitened = whitening(counted(maps))
            total = torch.stack([x.square().sum(dim=(1, 2, 3)) for x in whitened]).sum(0)
            return total / (2 * sum(x[0].numel() for x in whitened))

        pixels = self.images.pixels.read(self.selection).numpy()
        few = pixels[_severity_images(len(pixels))]
        self._begin("scoring good images", len(self.selection))
        good = self._scores(self.images, self.selection, gaussian)
        self._begin("making synthetic defects", defects_drawn(len(pixels)))
        self.severities = {}
        inside = None if (mask := self.detector.pixels.mask) is None else mask.cpu().numpy()
        every = boxes_at(self.images.boxes, self.selection.tolist())
        few_boxes = every[_severity_images(len(pixels))]
        for family in synthetic.FAMILIES:

            def of_severity(severity: float, family: str = family) -> NDArray[np.float32]:
                made = synthetic.make(family, few, severity, run.seed, inside=inside, boxes=few_boxes)
                return self._scores_of(made, gaussian)

            self.severities[family] = choose_severity(family, of_severity, good)
            made = synthetic.make(family, pixels, self.severities[family], run.seed + 1, inside=inside, boxes=every)
            for batch in self._batches(torch.from_numpy(made)):
                self.defects.append(batch)
        return self.scores(gaussian)

    def _begin(self, what: str, images: int) -> None:
        self._work = Work(what, 0, images)

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        """The rows, (N, ...), in batches; tells how far the work is that was begun."""
        for part in rows.split(BATCH):
            self.run.on_work(self._work)
            yield part
            self._work = self._work._replace(done=self._work.done + len(part))

    def take(self) -> tuple[ExamScores, NDArray[np.float32]]:
        """The scores of the detector as it is, and of every selection image the largest map value in the part that shows it."""
        maxima: list[float] = []
        boxes = boxes_at(self.images.boxes, self.selection.tolist())
        size = self.detector.config.input.height, self.detector.config.input.width

        def score(maps: Maps) -> Tensor:
            scored = self.detector.score_features(maps)
            if len(maxima) < len(boxes):  # the good images come first
                for one in self.detector.at_map_size(scored.anomaly_map).cpu():
                    box = boxes[len(maxima)]
                    rows, columns = (slice(None),) * 2 if box is None else box.cells(size, (len(one), len(one[0])))
                    maxima.append(float(one[rows, columns].max()))
            return scored.score

        scores = self.scores(score)
        return scores, np.array(maxima, np.float32)

    def scores(self, score: Callable[[Maps], Tensor]) -> ExamScores:
        count = len(self.selection)
        self._begin("scoring good images and synthetic defects", (1 + len(synthetic.FAMILIES)) * count)
        good = self._scores(self.images, self.selection, score)
        defects = {
            family: self._scores(self.defects, torch.arange(i * count, (i + 1) * count), score)
            for i, family in enumerate(synthetic.FAMILIES)
        }
        return ExamScores(good, defects)

    @torch.inference_mode()
    def _scores(self, features: Features, positions: Tensor, score: Callable[[Maps], Tensor]) -> NDArray[np.float32]:
        batches, device = self._batches(positions), self.run.device
        return np.concatenate([score([x.to(device) for x in features.read(part)]).cpu().numpy() for part in batches])

    @torch.inference_mode()
    def _scores_of(self, pixels: NDArray[np.uint8], score: Callable[[Maps], Tensor]) -> NDArray[np.float32]:
        batches, device = self._batches(torch.from_numpy(pixels)), self.run.device
        return np.concatenate([score(self.detector.extract(part.to(device))).cpu().numpy() for part in batches])
