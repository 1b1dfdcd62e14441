"""Exact ranking metrics from scores and labels, and the same for pixels in bounded memory.

Scores are float32 and higher is more anomalous; label 1 is defective. Equal scores share one threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_]


def auroc(scores: Scores, labels: Labels) -> float:
    """P(score of a defect > score of a good image) + half of the ties; nan if one of the classes is missing or a score is nan.

    Source: Mann-Whitney U / (n_defects n_goods); Fawcett 2006, An introduction to ROC analysis.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    bad = labels.astype(bool)
    defects, goods = scores[bad], np.sort(scores[~bad])
    if not len(defects) or not len(goods) or np.isnan(scores).any():
        return float("nan")
    below, up_to = (np.searchsorted(goods, defects, side).sum() for side in ("left", "right"))
    return float((below + up_to) / 2 / (len(defects) * len(goods)))


def average_precision(scores: Scores, labels: Labels) -> float:
    """Sum over thresholds of (recall step) x precision, without interpolation; nan if one of the classes is missing.

    >>> average_precision(np.array([0.1, 0.6, 0.4, 0.9]), np.array([False, False, True, True])).__round__(4)
    0.8333
    """
    return _average_precision(*_curve(scores, labels))


def f1_max(scores: Scores, labels: Labels) -> float:
    """The largest F1 over all thresholds, an oracle's figure (it looks at the labels); nan if one class is missing.

    >>> f1_max(np.array([0.1, 0.6, 0.4, 0.9]), np.array([False, False, True, True]))
    0.8
    """
    return _f1_max(*_curve(scores, labels))


def _curve(scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Defects and goods at or above each distinct score, from the highest score down; each (T,)."""
    order = np.argsort(scores, kind="stable")[::-1]
    ranked, hits = scores[order], labels[order].astype(np.int64)
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    return np.cumsum(hits)[last_of_tie], np.cumsum(1 - hits)[last_of_tie]


def _average_precision(true_positives: NDArray[np.int64], false_positives: NDArray[np.int64]) -> float:
    if not len(true_positives) or not true_positives[-1] or not false_positives[-1]:
        return float("nan")
    flagged = np.maximum(true_positives + false_positives, 1)
    steps = np.diff(true_positives, prepend=0) / true_positives[-1]
    return float((steps * (true_positives / flagged)).sum())


def _f1_max(true_positives: NDArray[np.int64], false_positives: NDArray[np.int64]) -> float:
    if not len(true_positives) or not true_positives[-1] or not false_positives[-1]:
        return float("nan")
    return float((2 * true_positives / (true_positives + false_positives + true_positives[-1])).max())


@dataclass(frozen=True)
class PixelFigures:
    """AUROC, average precision and F1-max over pixels; nan if a class is missing."""

    auroc: float
    average_precision: float
    f1_max: float


class PixelCurve:
    """Counts pixels by score and label, image after image, in memory that does not grow with the images.

    The thresholds follow the order of float32 with its lowest 12 bits dropped: 2^20 classes, each at most 0.05 % of its
    value wide, cover the whole range of finite float32. Scores of one class count as equal, so the figures are exact for
    scores rounded to 12 significant bits.

    >>> curve = PixelCurve()
    >>> curve.add(np.float32([[0.1, 0.4], [0.6, 0.9]]), np.array([[False, False], [True, True]]))
    >>> curve.figures()
    PixelFigures(auroc=1.0, average_precision=1.0, f1_max=1.0)
    """

    BITS = 20

    def __init__(self) -> None:
        self.counts = np.zeros((2, 1 << self.BITS), np.int64)

    def add(self, scores: NDArray[np.float32], labels: Labels) -> None:
        """Add scores and labels of one shape, whatever it is; scores are finite."""
        classes = score_classes(scores.ravel(), self.BITS)
        hit = labels.ravel().astype(bool)
        for label in (0, 1):
            add_counts(self.counts[label], classes[hit == label])

    def __add__(self, other: "PixelCurve") -> "PixelCurve":
        both = PixelCurve()
        both.counts = self.counts + other.counts
        return both

    def figures(self) -> PixelFigures:
        return figures_of_counts(*self.counts)


def score_classes(scores: NDArray[np.float32], bits: int) -> NDArray[np.int64]:
    """The leading bits of each float32 as an integer from 0 to 2^bits - 1 that rises with the score.

    >>> score_classes(np.float32([-1, 0, 1, 2]), bits=4)
    array([ 4,  8, 11, 12])
    """
    plain = np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
    raw = plain.view(np.uint32)
    ordered = np.where(raw >> 31, ~raw, raw | np.uint32(1 << 31))
    return (ordered >> np.uint32(32 - bits)).astype(np.int64)


def add_counts(counts: NDArray, classes: NDArray[np.int64], weights: NDArray[np.floating] | None = None) -> None:
    """Add the number of times every class occurs, or its total weight, to the counts, in place.

    >>> counts = np.zeros(4, np.int64)
    >>> add_counts(counts, np.array([1, 3, 3]))
    >>> counts
    array([0, 1, 0, 2])
    """
    if len(classes):
        low = int(classes.min())
        found = np.bincount(classes - low, weights)
        counts[low : low + len(found)] += found.astype(counts.dtype)


def figures_of_counts(goods: NDArray, defects: NDArray) -> PixelFigures:
    """The figures from counts per class, (T,) each; classes are in rising order of score.

    >>> figures_of_counts(goods=np.array([5, 3, 0]), defects=np.array([0, 0, 2]))
    PixelFigures(auroc=1.0, average_precision=1.0, f1_max=1.0)
    """
    used = np.flatnonzero((goods > 0) | (defects > 0))[::-1]
    true_positives, false_positives = np.cumsum(defects[used]), np.cumsum(goods[used])
    if not len(used) or not true_positives[-1] or not false_positives[-1]:
        area = float("nan")
    else:
        recall = true_positives / true_positives[-1]
        alarms = false_positives / false_positives[-1]
        area = float(np.trapezoid(np.concatenate(([0.0], recall)), np.concatenate(([0.0], alarms))))
    precision_area, best = (f(true_positives, false_positives) for f in (_average_precision, _f1_max))
    return PixelFigures(area, precision_area, best)
