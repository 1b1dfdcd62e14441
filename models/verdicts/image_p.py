"""An image's own p-value, for looking and never for decisions: images of one piece are alike, so pieces count, not images.

Sums of shares are integers in units of 1 / (least common multiple of the pieces' image counts), so no comparison rounds.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError
from models.verdicts.ranks import finite_scores

LARGEST = np.iinfo(np.int64).max
Integers = NDArray[Any]  # of int64, or of Python's integers


class ImageCalibration(NamedTuple):
    """The images of n good pieces. Where views differ, one for each view, of that view's images only.

    scores: in rising order, (I,), float32.
    above: units of the images from each position on, (I + 1,): int64, or Python integers if those could overflow.
    unit: the least common multiple of the pieces' image counts; a piece has that many units in all.
    pieces: n.
    """

    scores: NDArray[np.float32]
    above: Integers
    unit: int
    pieces: int


def image_calibration(scores: ArrayLike, pieces: ArrayLike) -> ImageCalibration:
    """Sorts the images of good pieces.

    Args:
        scores: of images of one view, (I,).
        pieces: the piece of each image, (I,).
    Raises:
        VerdictError: no image, or a score that is not finite.

    >>> found = image_calibration([1, 2, 3, 4, 5], ["a", "a", "b", "b", "b"])
    >>> found.unit, found.above.tolist()
    (6, [12, 9, 6, 4, 2, 0])
    """
    cast = finite_scores(scores, "calibration scores")
    _, code, counts = np.unique(np.asarray(pieces), return_inverse=True, return_counts=True)
    if len(cast) == 0 or len(code) != len(cast):
        raise VerdictError(f"pieces must be one for each of 1 or more images; got {len(code)} for {len(cast)} images.")
    unit = math.lcm(*(int(count) for count in np.unique(counts)))
    total = unit * (len(counts) + 1)
    order = np.argsort(cast, kind="stable")
    shares = np.array([unit // int(count) for count in counts], np.int64 if total <= LARGEST else object)[code[order]]
    above = np.concatenate([np.cumsum(shares[::-1])[::-1], np.zeros(1, shares.dtype)])
    return ImageCalibration(cast[order], above, unit, len(counts))


def image_ranks(scores: ArrayLike, calibration: ImageCalibration) -> Integers:
    """(1 + sum over calibration pieces of the share of their images that score at least as high) x unit, (N,).

    >>> image_ranks([9, 3], image_calibration([1, 2, 3, 4, 5], ["a", "a", "b", "b", "b"]))  # 6ths: 1, and 1 + 1
    array([ 6, 12])
    """
    return calibration.above[np.searchsorted(calibration.scores, finite_scores(scores), side="left")] + calibration.unit


def image_p(rank: Integers, calibration: ImageCalibration) -> NDArray[np.float64]:
    """p = rank / (unit (n + 1)), (N,), for reading.

    Assumes: pieces are exchangeable, and so are the images of one view within a piece; images of a piece may be alike.
    Guarantees: P(p <= a) <= a for a random image of a new piece, so the mean over pieces of the share of their images that
        are flagged is at most the rate, marginally. It says nothing of how many pieces have a flagged image.
    Source: Lee, Barber & Willett 2023, arXiv:2306.06342 (hierarchical conformal prediction);
        Dunn, Wasserman & Ramdas 2018, arXiv:1809.07441.

    >>> found = image_calibration([1, 2, 3, 4], ["a", "a", "b", "b"])
    >>> image_p(image_ranks([9, 4, 1], found), found)
    array([0.33333333, 0.5       , 1.        ])
    """
    total = calibration.unit * (calibration.pieces + 1)
    return (np.asarray(rank) / total).astype(np.float64)


def images_flagged(rank: Integers, rate: Fraction, calibration: ImageCalibration) -> NDArray[np.bool_]:
    """Whether p <= rate in exact arithmetic, (N,): rank <= floor(rate x unit x (n + 1)).

    Assumes, guarantees: as `image_p`.

    >>> found = image_calibration([1, 2, 3, 4], ["a", "a", "b", "b"])
    >>> images_flagged(image_ranks([9, 4, 1], found), Fraction("0.5"), found)
    array([ True,  True, False])
    """
    return (np.asarray(rank) <= math.floor(rate * calibration.unit * (calibration.pieces + 1))).astype(bool)
