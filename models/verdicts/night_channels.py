"""What the drift chart sees of a night: one number a channel, from the night's images, each compared with its own view.

Ratios stand in for raw contrast and sharpness, which move with the light: the spread of the grey values by their mean, and the
spread of the Laplacian by that of the grey values. A count among many images is charted as asin sqrt of its share: raw counts
of rare images are so skewed that unchanged nights alarm twice as often as promised (docs/benchmarks/verdicts/drift.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.faults import VerdictError

TAIL = 0.0025  # of the reference's images lie above the value from which an image is counted
LEAST_LEVELS = 0.5  # grey levels: black and flat pictures have a logarithm too


class Channel(NamedTuple):
    """name: as in the table `drift`.  source: what usually moves it.  floor: the smallest distance from the reference's mean
    that matters, in the channel's own unit.  unit: log (natural logarithm), scale (a view's distance of the 50 % from the 90 %
    point) or share (asin sqrt)."""

    name: str
    source: str
    floor: float
    unit: str


CHANNELS = (
    Channel("brightness", "light", 0.01, "log"),  # 1 %: one grey level at mid grey, no more than 8 bits can tell
    Channel("contrast_ratio", "light", 0.02, "log"),  # stray light or dirt; half a grey level of a spread of 25
    Channel("sharpness_ratio", "focus", 0.02, "log"),  # a Gaussian blur of about 0.35 pixels, on the tiles
    Channel("size", "fixture", 0.005, "log"),  # half a pixel in 100, along one side
    Channel("score_mean", "model", 0.1, "scale"),  # moves a false-alarm rate of 1 % to about 1.4 %, if scores are normal
    Channel("score_count", "mix", 0.02, "share"),  # twice 0.25 %
    Channel("embedding_mean", "fixture", 0.1, "scale"),
    Channel("embedding_count", "mix", 0.02, "share"),
)
WITHOUT_EMBEDDING = 6  # of these, the first


class NightImages(NamedTuple):
    """The images of one night, every array (N,): the columns of `scores` of the same names, the stored image's pixels, and how
    far the image's embedding is from where good images lie, higher is further (None if the model keeps no embedding)."""

    view: Sequence[str]
    brightness: NDArray[np.floating]
    contrast: NDArray[np.floating]
    sharpness: NDArray[np.floating]
    size_px: NDArray[np.floating]
    score: NDArray[np.floating]
    embedding: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class ViewCentres:
    """Of every view of the reference nights: mean logarithms (V, 4), mean score and embedding distance (V, D), the distance of
    their 90 % from their 50 % points (V, D), and the scaled values above which an image is counted (V, D); D is 2 with
    embeddings, else 1."""

    views: tuple[str, ...]
    log_means: NDArray[np.float64]
    means: NDArray[np.float64]
    width: NDArray[np.float64]
    tail: NDArray[np.float64]


def centres(nights: Sequence[NightImages]) -> ViewCentres:
    """The centres and scales of every view, over all images of the reference nights together.

    Views with few images have rough scales; that is the same on all nights, so it shifts no chart.
    Raises VerdictError if all scores of a view are alike.

    >>> rng = np.random.default_rng(0)
    >>> one = NightImages(["top"] * 50, *rng.uniform(50, 60, (4, 50)), score=rng.normal(size=50))
    >>> centres([one, one]).views
    ('top',)
    """
    views = np.concatenate([np.asarray(night.view, dtype=str) for night in nights])
    logs = np.concatenate([_logs(night) for night in nights])
    distances = np.concatenate([_distances(night) for night in nights])
    names = np.unique(views)
    rows = [views == name for name in names]
    means = np.array([distances[row].mean(axis=0) for row in rows])  # (V, D); medians would not cancel where views' shares vary
    width = np.array([np.diff(np.quantile(distances[row], [0.5, 0.9], axis=0), axis=0)[0] for row in rows])
    if not (width > 0).all():
        alike = names[~(width > 0).all(axis=1)].tolist()
        rule = "different between the images of a view"
        raise VerdictError(f"score and embedding must be {rule}; got one value in {alike!r}. Check the scores of that view.")
    scaled = [(distances[row] - means[i]) / width[i] for i, row in enumerate(rows)]
    tail = np.array([np.quantile(each, 1 - TAIL, axis=0, method="higher") for each in scaled])
    return ViewCentres(tuple(names.tolist()), np.array([logs[row].mean(axis=0) for row in rows]), means, width, tail)


def night_channels(night: NightImages, centred: ViewCentres) -> NDArray[np.float64]:
    """The night's value of every channel, in the order of `CHANNELS`: (8,), or (6,) without embeddings.

    Assumes nights of about as many images as the reference's: the mean of fewer images varies more than the chart expects.
    Raises VerdictError for a view that the reference does not have; such images are not judged at all.

    >>> rng = np.random.default_rng(0)
    >>> one = NightImages(["top"] * 50, *rng.uniform(50, 60, (4, 50)), score=rng.normal(size=50))
    >>> brighter = one._replace(brightness=1.1 * one.brightness, contrast=1.1 * one.contrast, sharpness=1.21 * one.sharpness)
    >>> moved = night_channels(brighter, centres([one])) - night_channels(one, centres([one]))  # by log 1.1
    >>> print(round(moved[0], 3), bool(abs(moved[1:]).max() < 1e-9))
    0.095 True
    """
    views = np.asarray(night.view, dtype=str)
    if not len(views):
        raise VerdictError("view must be that of at least one image; got none. A night without images has no channels.")
    known = np.asarray(centred.views)
    at = np.minimum(np.searchsorted(known, views), len(known) - 1)
    if (known[at] != views).any():
        unknown = sorted(set(views[known[at] != views].tolist()))
        rule = f"one of the reference's views, {', '.join(centred.views)}"
        raise VerdictError(f"view must be {rule}; got {unknown!r}. Leave such images out: they are not judged.")
    distances = _distances(night)
    if distances.shape[1] != centred.means.shape[1]:
        rule = "given on all nights or on none"
        raise VerdictError(f"embedding must be {rule}; got {night.embedding!r}. Chart the nights of one model together.")
    pictures = (_logs(night) - centred.log_means[at]).mean(axis=0)  # (4,)
    scaled = (distances - centred.means[at]) / centred.width[at]  # (N, D)
    counts = (scaled > centred.tail[at]).sum(axis=0)
    shares = np.arcsin(np.sqrt((counts + 3 / 8) / (len(views) + 3 / 4)))  # Anscombe 1948, Biometrika 35:246
    pairs = np.stack([scaled.mean(axis=0), shares], axis=1).ravel()  # (2 D,): mean and count of the score, then the embedding
    return np.concatenate([pictures, pairs])


def _logs(night: NightImages) -> NDArray[np.float64]:
    """(N, 4): log mean, log(sd / mean), log(Laplacian sd / sd), log size. `sharpness` is the Laplacian's variance."""
    mean = np.maximum(np.asarray(night.brightness, np.float64), LEAST_LEVELS)
    spread = np.maximum(np.asarray(night.contrast, np.float64), LEAST_LEVELS)
    edges = np.maximum(np.sqrt(np.asarray(night.sharpness, np.float64)), LEAST_LEVELS)
    size = np.log(np.asarray(night.size_px, np.float64))
    return _finite(np.stack([np.log(mean), np.log(spread / mean), np.log(edges / spread), size], axis=1))


def _distances(night: NightImages) -> NDArray[np.float64]:
    """(N, D): score, and the embedding's distance if there is one."""
    found = [night.score] if night.embedding is None else [night.score, night.embedding]
    return _finite(np.stack([np.asarray(each, np.float64) for each in found], axis=1))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values).all(axis=1)).sum())
        raise VerdictError(f"the night's columns must be finite; got {bad} images that are not. Leave out images in `errors`.")
    return values
