"""Goes through the beginning of every part of a fit, to say how long the whole takes on this device before it starts.

The same code runs as in the fit itself, with the same settings and number of images: only passes over images, steps, epochs
and the choice of a bank end after the first few, and what is left of each is counted as long as those took. Images are drawn:
how long arithmetic takes does not depend on them, and real ones could be all alike at first.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arithmetic import set_arithmetic
from models.detector import Detector, FitRun, P
from models.features.whitening import moments_of
from models.fitting import exam, synthetic
from models.maps.grids import Maps
from models.prepared import Prepared

IMAGES = 16
WARMING_UP = 4  # of them: a first pass makes what later ones use
LEAST_PARTS = 3  # the first one is not counted either
ENOUGH_S = 0.3


class Pace:
    """A clock that goes on by what was left out.

    examined_s: what all exams between the epochs take.

    >>> ticks = iter([0.0, 10.0, 10.0, 12.0, 12.0, 14.0, 14.0])
    >>> pace = Pace(clock=lambda: next(ticks))
    >>> len(list(pace.first(range(100))))  # the first takes 10 s, the other two 2 s each, and so would 97 more
    3
    >>> pace.now()
    208.0
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.examined_s = 0.0
        self._clock, self._left_out_s = clock, 0.0
        self._stepped_at = 0.0

    def now(self) -> float:
        """Seconds, as if nothing was left out."""
        return self._clock() + self._left_out_s

    def first(self, parts: Sequence[P]) -> Iterator[P]:
        """The first of the parts: at least so many, and until they have taken enough time."""
        took: list[float] = []
        for part in parts:
            if len(took) >= LEAST_PARTS and sum(took) >= ENOUGH_S:
                break
            begun = self.now()
            yield part
            took.append(self.now() - begun)
        if len(took) < len(parts):
            counted = took[1:] or took
            self._left_out_s += (len(parts) - len(took)) * sum(counted) / len(counted)

    def steps(self, parts: Sequence[P]) -> Iterator[P]:
        """The first steps of an epoch."""
        yield from self.first(parts)
        self._stepped_at = self.now()

    def epochs(self, numbers: Sequence[int]) -> Iterator[int]:
        """The first epoch."""
        for number in numbers[:1]:
            begun = self.now()
            try:
                yield number
            finally:  # the fit leaves its last epoch by a break
                ended = self.now()
                self.examined_s += (ended - self._stepped_at) * len(numbers)
                self._left_out_s += (ended - begun) * (len(numbers) - 1)


@dataclass(frozen=True)
class Rehearsal(FitRun):
    """A FitRun that goes through the first parts only. pace: says what the whole would take."""

    pace: Pace = field(default_factory=Pace)

    def epochs(self, numbers: Sequence[int]) -> Iterator[int]:
        yield from self.pace.epochs(numbers)

    def steps(self, count: int) -> Iterator[int]:
        yield from self.pace.steps(range(count))

    def _gone_through(self, parts: Sequence[P]) -> Iterator[P]:
        yield from self.pace.first(parts)


class Sample:
    """A few drawn images and their features, which stand for any number of them.

    extract_s: seconds that the features of one image take.  maps: per level (IMAGES, C_l, h_l, w_l), of the stored type.

    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> Sample(detector, "cpu").read(torch.tensor([0, 999]))[0].shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, detector: Detector, device: str):
        set_arithmetic()
        size = detector.config.input
        self.detector, self.device = detector, device
        self.pixels = torch.randint(
            0, 256, (IMAGES, size.height, size.width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        first = self._extracted(self.pixels[:WARMING_UP])
        begun = time.monotonic()
        rest = self._extracted(self.pixels[WARMING_UP:])
        self.extract_s = (time.monotonic() - begun) / (IMAGES - WARMING_UP)
        self.maps = [torch.cat(parts) for parts in zip(first, rest, strict=True)]

    def _extracted(self, pixels: Tensor) -> Maps:
        maps = self.detector.extract(pixels.to(self.device))
        return [x.cpu() if x.dtype == torch.uint8 else x.cpu().half() for x in maps]

    def read(self, positions: Tensor) -> Maps:
        """As the fit reads them: from memory here, where it has a file that the operating system keeps there."""
        chosen = positions % IMAGES
        if not self.detector.reads_often:
            return self.detector.extract(self.pixels[chosen].to(self.device))
        return [x[chosen] if x.dtype == torch.uint8 else x[chosen].float() for x in self.maps]


class Rehearsed(NamedTuple):
    """Seconds: of making the synthetic defects, of a selection that does not stop early, of the training. image_s: of scoring
    one image's features, with extracting them where they are not stored; 0 without a selection."""

    defects_s: float
    selection_s: float
    training_s: float
    image_s: float = 0.0

    def all_s(self) -> float:
        """Seconds of the whole fit."""
        return self.defects_s + self.selection_s + self.training_s


def rehearse(sample: Sample, fit: int, selection: int, run: FitRun, copies: int = 0, lit: bool = False) -> Rehearsed:
    """What a fit to so many images takes. The detector is left unfitted; a fit after it gives the same bits as without it.

    copies: of every image that the fit reads too.  lit: whether the selection has good images in other light as well.

    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> short = FitRun(detector.Training(epochs=1, epoch_steps=1))
    >>> found = rehearse(Sample(detector, "cpu"), fit=8, selection=0, run=short)
    >>> found.training_s > 0, found.selection_s
    (True, 0.0)
    """
    detector, pace = sample.detector, Pace()
    positions = torch.arange(fit * (1 + copies))
    rehearsal = Rehearsal(run.training, run.seed, run.device, pace=pace)

    image_s = 0.0

    def examined(epoch: int = 0) -> bool:
        nonlocal image_s
        begun = pace.now()
        count = (1 + lit) * selection + exam.defects_stored(selection)
        for part in pace.first(torch.arange(count).split(exam.BATCH)):
            with torch.inference_mode():
                scored = detector.score_features([x.to(run.device) for x in sample.read(part)])
                scored.score.cpu()
                detector.at_map_size(scored.anomaly_map).amax(dim=(1, 2)).cpu()
        image_s = (pace.now() - begun) / count
        return False

    defects_s = selection_s = 0.0
    if selection:
        rehearsal = replace(rehearsal, after_epoch=examined)
        begun = pace.now()
        moments_of(sample, exam.gaussian_images(torch.arange(fit)), rehearsal)
        defects_s = pace.now() - begun + exam.defects_drawn(selection) * (_drawn_s(sample) + sample.extract_s)
    begun = pace.now()
    detector.fit(sample, positions, rehearsal)
    fit_s = pace.now() - begun
    training_s = (fit_s - pace.examined_s) * (fit + selection) / fit
    if selection:
        begun = pace.now()
        if not hasattr(run.training, "epochs"):
            examined()
        selection_s = fit_s + pace.now() - begun
    detector.fitted = False
    for module in detector.modules():
        if isinstance(module, Prepared):
            module.forget()
    return Rehearsed(defects_s, selection_s, training_s, image_s)


def _drawn_s(sample: Sample) -> float:
    """Seconds that a synthetic defect takes, on average over the families."""
    pixels: np.ndarray = sample.pixels[:2].numpy()
    begun = time.monotonic()
    for family in synthetic.FAMILIES:
        synthetic.make(family, pixels, 1.0, seed=0)
    return (time.monotonic() - begun) / (len(pixels) * len(synthetic.FAMILIES))
