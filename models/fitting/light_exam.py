"""The criterion under light: held-out good images under gradients of light stand on the good side too, and must not alarm.

The selection itself looks at images as they are. This second figure tells of two fits, one of which may know other light
(models/fitting/light.py), which one stands it, without a label: take the one that is better here by more than one standard
error (`selection.standard_error` of two LitScores) and no worse in the criterion by more than one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.alterations.light import LightField, lit
from models.alterations.picture import within
from models.detector import Detector, FitRun
from models.features.store import ImageFeatures
from models.fitting.selection import Criterion, ExamScores, criterion
from models.maps.content_box import Box, boxes_at

BATCH = 16
ANGLES = 8  # tells these generators from those of other draws with the same seed


@dataclass(frozen=True)
class LitScores(ExamScores):
    """Scores of an exam, and those of its good images under light, (N,), which its criterion takes as good.

    >>> found = LitScores(np.array([1.0, 2.0]), {"spot": np.array([3.0, 4.0])}, lit=np.array([2.5, 5.0]))
    >>> found.criterion().families
    {'spot': 0.75}
    """

    lit: NDArray[np.floating]

    def criterion(self, drawn: NDArray[np.int64] | None = None) -> Criterion:
        chosen = np.arange(len(self.good)) if drawn is None else drawn
        defects = {name: scores[chosen] for name, scores in self.defects.items()}
        return criterion(np.concatenate([self.good[chosen], self.lit[chosen]]), defects)


class LightExam:
    """Selection images under gradients of light, made when they are first scored.

    gradients: their features, in the order of the selection images; empty, or kept by an interrupted training.

    >>> import tempfile
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> few, size = {"bank_size": 8}, InputConfig(height=64, width=64)
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> run = FitRun(detector.Training())
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "good") as images:
    ...     images.append(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    ...     with ImageFeatures(detector, Path(folder), "gradients") as gradients:
    ...         exam = LightExam(detector, images, torch.arange(2), gradients, 0.4, run)
    ...         exam.take(ExamScores(np.zeros(2), {})).lit.shape
    (2,)
    """

    def __init__(
        self,
        detector: Detector,
        images: ImageFeatures,
        selection: Tensor,
        gradients: ImageFeatures,
        strength: float,
        run: FitRun,
    ):
        self._detector, self._images, self._selection = detector, images, selection
        self._gradients, self._strength, self._run = gradients, strength, run

    @property
    def stored_bytes(self) -> int:
        """What the images under gradients take on disk."""
        return self._gradients.stored_bytes

    def _make(self) -> None:
        for batch in self._run.batches("making good images in other light", self._selection, BATCH):
            pixels = self._images.pixels.read(batch).numpy()
            boxes = boxes_at(self._images.boxes, batch.tolist())
            made = under_gradients(pixels, batch.tolist(), self._strength, self._run.seed, boxes)
            self._gradients.append(torch.from_numpy(made))
        self._gradients.complete(self._strength)

    @torch.inference_mode()
    def take(self, scores: ExamScores) -> LitScores:
        """With the scores of the detector as it is."""
        if not len(self._gradients):
            self._make()
        parts = []
        for part in self._run.batches("scoring good images in other light", torch.arange(len(self._gradients)), BATCH):
            maps = [x.to(self._run.device) for x in self._gradients.read(part)]
            parts.append(self._detector.score_features(maps).score.cpu().numpy())
        return LitScores(scores.good, scores.defects, np.concatenate(parts))


@contextmanager
def light_exam(
    detector: Detector,
    images: ImageFeatures,
    selection: Tensor,
    strength: float,
    run: FitRun,
    workspace: Path,
    identity: str | None = None,
) -> Iterator[LightExam | None]:
    """The exam, its features in the workspace until the end, and longer under an identity; None for the strength 0.

    >>> import tempfile
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> few, size = {"bank_size": 8}, InputConfig(height=64, width=64)
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> run = FitRun(detector.Training())
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "good") as images:
    ...     images.append(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    ...     with light_exam(detector, images, torch.arange(2), 0.0, run, Path(folder)) as exam:
    ...         exam is None
    True
    """
    if not strength:
        yield None
        return
    with ImageFeatures(detector, workspace, "gradients", run.device, identity) as gradients:
        yield LightExam(detector, images, selection, gradients, strength, run)


def under_gradients(
    pixels: NDArray[np.uint8],
    positions: list[int],
    strength: float,
    seed: int,
    boxes: Sequence[Box | None] | None = None,
) -> NDArray[np.uint8]:
    """Images (B, H, W, 3), uint8, each under a gradient of the full strength, whose direction follows seed and position.

    boxes: the part of each that shows the picture, where it is padded: the gradient goes over the picture.

    >>> grey = np.full((2, 9, 9, 3), 100, np.uint8)
    >>> found = under_gradients(grey, [0, 1], strength=0.4, seed=0)
    >>> int(found.min()), int(found.max()), bool((found[0] != found[1]).any())
    (60, 140, True)
    """
    angles = [np.random.default_rng((seed, ANGLES, position)).uniform(0, 2 * np.pi) for position in positions]
    return np.stack(
        [
            within(image, box, partial(lit, field=LightField(gradient=strength, angle=angle)))
            for image, angle, box in zip(pixels, angles, boxes or [None] * len(pixels), strict=True)
        ]
    )
