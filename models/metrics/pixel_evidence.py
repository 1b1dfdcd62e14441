"""Pixel figures with intervals: each image's part is kept as small counts, so that images can be drawn again.

The figures themselves come from 2^20 classes of score. The bootstrap's draws use 2^16 (bfloat16's precision), so that an
image takes about ten kilobytes whatever its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics.aupro import STRICT_FPR_LIMIT, AuproCurve, area_of_counts, region_shares
from models.metrics.bootstrap import Interval, interval
from models.metrics.ranking import PixelCurve, figures_of_counts, score_classes

DRAW_BITS = 16


@dataclass(frozen=True)
class ImagePixels:
    """One image's pixels by class of score. classes: those that occur, (K,). outside, inside, overlap: for each class, the
    pixels outside and inside the mask, and the shares of regions. regions: their number in the mask."""

    classes: NDArray[np.int64]
    outside: NDArray[np.float64]
    inside: NDArray[np.float64]
    overlap: NDArray[np.float64]
    regions: int


class PixelEvidence:
    """Images of one kind (good, or one defect type), added one by one.

    >>> evidence = PixelEvidence()
    >>> evidence.add(np.float32([[0, 2], [1, 1]]), np.array([[False, True], [False, False]]), group="piece 1")
    >>> evidence.images[0].classes.size, evidence.images[0].regions
    (3, 1)
    """

    def __init__(self) -> None:
        self.curve = PixelCurve()
        self.overlaps = AuproCurve()
        self.images: list[ImagePixels] = []
        self.groups: list[str] = []

    def add(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_],
        group: str,
        counted: NDArray[np.bool_] | None = None,
    ) -> None:
        """Args:
        anomaly_map: (H, W) float32, finite, at the mask's resolution.
        mask: (H, W) bool, True where defective; all False for a good image.
        counted: (H, W) bool, the pixels inside the region of interest; None: all.
        """
        kept = np.ones(mask.shape, bool) if counted is None else counted
        self.curve.add(anomaly_map[kept], mask[kept])
        self.overlaps.add(anomaly_map, mask, counted)
        mask = mask & kept
        classes, place = np.unique(score_classes(anomaly_map.ravel(), DRAW_BITS), return_inverse=True)
        hit = mask.ravel()
        inside, share, regions = region_shares(mask)
        count = len(classes)
        self.images.append(
            ImagePixels(
                classes,
                np.bincount(place, ~hit & kept.ravel(), count).astype(np.float64),
                np.bincount(place, hit, count).astype(np.float64),
                np.bincount(place[inside], share, count).astype(np.float64),
                regions,
            )
        )
        self.groups.append(group)


def pixel_intervals(parts: Sequence[PixelEvidence], draws: int, seed: int) -> dict[str, Interval]:
    """pixel_auroc, pixel_average_precision, pixel_f1_max, aupro and aupro_strict (up to rates of 0.3 and 0.05) over all images
    of the parts, with intervals.

    >>> evidence = PixelEvidence()
    >>> for piece in ("1", "2", "3"):
    ...     evidence.add(np.float32([[0, 2], [1, 1]]), np.array([[False, True], [False, False]]), piece)
    >>> pixel_intervals([evidence], draws=20, seed=0)["pixel_auroc"]
    Interval(value=1.0, low=1.0, high=1.0)
    """
    curve = sum((part.curve for part in parts[1:]), parts[0].curve)
    overlaps = sum((part.overlaps for part in parts[1:]), parts[0].overlaps)
    exact = curve.figures()
    points = {
        "pixel_auroc": exact.auroc,
        "pixel_average_precision": exact.average_precision,
        "pixel_f1_max": exact.f1_max,
        "aupro": overlaps.area(),
        "aupro_strict": overlaps.area(STRICT_FPR_LIMIT),
    }
    images = [image for part in parts for image in part.images]
    groups = [group for part in parts for group in part.groups]
    used = np.unique(np.concatenate([image.classes for image in images]))
    outside, inside, overlap = (np.zeros((len(images), len(used)), np.float32) for _ in range(3))
    for i, image in enumerate(images):
        place = np.searchsorted(used, image.classes)
        outside[i, place], inside[i, place], overlap[i, place] = image.outside, image.inside, image.overlap
    regions = np.array([image.regions for image in images], np.float64)

    def counted(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        times = np.bincount(drawn, minlength=len(images)).astype(np.float32)
        pixels = figures_of_counts(times @ outside, times @ inside)
        counts = times @ overlap, times @ outside, float(times @ regions)
        areas = area_of_counts(*counts), area_of_counts(*counts, STRICT_FPR_LIMIT)
        return np.array([pixels.auroc, pixels.average_precision, pixels.f1_max, *areas])

    found = interval(counted, groups, draws, seed)
    return {
        name: Interval(point, *(float(bound[i]) for bound in (found.low, found.high)))
        for i, (name, point) in enumerate(points.items())
    }
