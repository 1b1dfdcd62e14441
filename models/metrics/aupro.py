"""AUPRO: area under the per-region overlap curve up to a false positive rate of 0.3, and of 0.05.

Definition (Bergmann et al. 2021, The MVTec Anomaly Detection Dataset, IJCV 129, section 5.2): a region is one
8-connected component of a ground-truth mask. At a threshold, the overlap of a region is the share of its pixels at or
above it. PRO is the mean overlap over all regions of all images; small ones have the same weight as large ones. The false
positive rate is the share of all pixels outside every region (good images included) at or above it. The area is the
integral of PRO over that rate from 0 to the limit, divided by the limit: 1 is perfect, and chance is limit / 2. The
integral uses the trapezoid rule and cuts the curve at the limit by linear interpolation. 0.3 is the custom; at 0.05 a map must
find the defect with few false cells.
Grey masks are made binary (>= 128) before any resizing. An image with an empty mask adds its pixels only to the false
positive rate.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.metrics.ranking import PixelCurve, add_counts, score_classes

MASK_THRESHOLD = 128
FPR_LIMIT, STRICT_FPR_LIMIT = 0.3, 0.05
EIGHT_CONNECTED = np.ones((3, 3), bool)


def binary_mask(mask: NDArray[np.integer | np.floating]) -> NDArray[np.bool_]:
    """Defect pixels of a grey mask (H, W), 0 to 255, at its original size.

    >>> binary_mask(np.uint8([[0, 127, 128, 255]]))
    array([[False, False,  True,  True]])
    """
    return mask >= MASK_THRESHOLD


class AuproCurve:
    """Takes images one by one; memory grows only with the number of thresholds, not with images or regions.

    Thresholds are the 2^20 classes of `metrics.PixelCurve`, so the figure is exact for maps of 12 significant bits.

    >>> curve = AuproCurve()
    >>> curve.add(np.float32([[9, 1], [1, 1]]), np.array([[True, False], [False, False]]))
    >>> curve.area()
    1.0
    """

    def __init__(self) -> None:
        classes = 1 << PixelCurve.BITS
        self.overlap = np.zeros(classes, np.float64)  # of each class, summed over regions; each region adds 1 in total
        self.outside = np.zeros(classes, np.int64)
        self.regions = 0

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None) -> None:
        """Args:
        anomaly_map: (H, W) float32, finite, at the mask's resolution.
        mask: (H, W) bool, True where defective; all False for a good image.
        counted: (H, W) bool, the pixels that count; None: all.
        """
        classes = score_classes(anomaly_map.ravel(), PixelCurve.BITS)
        good = ~mask if counted is None else ~mask & counted
        inside, share, regions = region_shares(mask if counted is None else mask & counted)
        add_counts(self.outside, classes[good.ravel()])
        add_counts(self.overlap, classes[inside], share)
        self.regions += regions

    def __add__(self, other: "AuproCurve") -> "AuproCurve":
        both = AuproCurve()
        both.overlap, both.outside = self.overlap + other.overlap, self.outside + other.outside
        both.regions = self.regions + other.regions
        return both

    def area(self, limit: float = FPR_LIMIT) -> float:
        return area_of_counts(self.overlap, self.outside, self.regions, limit)


def region_shares(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Flat positions of the defect pixels of (H, W), 1 / (pixels of its region) for each, and the number of regions.

    >>> inside, share, regions = region_shares(np.array([[1, 1, 0, 1]], bool))
    >>> inside, share, regions
    (array([0, 1, 3]), array([0.5, 0.5, 1. ]), 2)
    """
    labels, count = ndimage.label(mask, structure=EIGHT_CONNECTED)
    inside = np.flatnonzero(labels)
    region = labels.ravel()[inside]
    return inside, 1.0 / np.bincount(region, minlength=1)[region], int(count)


def area_of_counts(overlap: NDArray[np.floating], outside: NDArray, regions: float, limit: float = FPR_LIMIT) -> float:
    """Area up to the limit divided by the limit, 0 to 1; nan without a region or without a pixel outside.

    Args:
        overlap: for each class of score, rising, the shares of regions that lie in it, summed over regions, (T,).
        outside: for each class, the pixels outside every region, (T,).

    >>> area_of_counts(overlap=np.array([0.0, 1.0]), outside=np.array([10, 0]), regions=1)
    1.0
    """
    total = outside.sum()
    if not regions or not total:
        return float("nan")
    used = np.flatnonzero((overlap > 0) | (outside > 0))[::-1]
    rate = np.concatenate(([0.0], np.cumsum(outside[used]) / total))
    pro = np.concatenate(([0.0], np.cumsum(overlap[used]) / regions))
    end = int(np.searchsorted(rate, limit, side="right"))
    if end == len(rate):
        return float(np.trapezoid(pro, rate) / limit)
    weight = (limit - rate[end - 1]) / (rate[end] - rate[end - 1])
    at_limit = pro[end - 1] + weight * (pro[end] - pro[end - 1])
    return float(np.trapezoid(np.append(pro[:end], at_limit), np.append(rate[:end], limit)) / limit)
