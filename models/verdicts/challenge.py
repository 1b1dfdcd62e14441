"""The other side of a false-alarm rate: how many bad pieces a model finds, from pieces whose defects are known or seeded.

Every row is a piece. The figures hold for defects like these, imaged like these; seeded defects may be easier than real ones.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError
from models.verdicts.exact_interval import Share, at_least, at_most, two_sided


class Detection(NamedTuple):
    """Bad pieces of one size class ("" for all together): how many, how many were flagged, and the exact lower bound of the
    share that is found of such pieces."""

    size_class: str
    flagged: int
    pieces: int
    at_least: float

    def sentence(self, level: float = 0.95) -> str:
        """The bound in words.

        >>> Detection("0.5 mm", flagged=29, pieces=29, at_least=0.9019).sentence()
        '0.5 mm: 29 of 29 flagged: at least 90 % are found, at 95 % confidence'
        """
        of = f"{self.size_class}: " if self.size_class else ""
        bound = math.floor(100 * self.at_least)  # never rounded up
        return f"{of}{self.flagged} of {self.pieces} flagged: at least {bound} % are found, at {100 * level:g} % confidence"


class Decisions(NamedTuple):
    """false_calls: good pieces that were flagged.  escapes: bad pieces that were not.  Both with exact 95 % intervals."""

    false_calls: Share
    escapes: Share


def detection(flagged: ArrayLike, size_classes: Sequence[str] | None = None, level: float = 0.95) -> list[Detection]:
    """The share of bad pieces that is found, all together first, then by size class in the order of their names.

    Assumes independent pieces. Guarantees each bound by itself with probability `level`, for any true share; with K classes
    all hold at once with at least 1 - K (1 - level).

    Args:
        flagged: whether each bad piece was flagged, (N,) bool.
        size_classes: of every piece, (N,).
    Source: Clopper & Pearson 1934, Biometrika 26:404.

    >>> [print(row.sentence()) for row in detection([True] * 29 + [False], ["large"] * 29 + ["small"])]
    29 of 30 flagged: at least 85 % are found, at 95 % confidence
    large: 29 of 29 flagged: at least 90 % are found, at 95 % confidence
    small: 0 of 1 flagged: at least 0 % are found, at 95 % confidence
    [None, None, None]
    """
    found = _bools("flagged", flagged)
    if size_classes is None:
        return [_detection("", found, level)]
    names = np.asarray(size_classes, dtype=str)
    if names.shape != found.shape:
        rule = f"one name for each of {len(found)} pieces"
        raise VerdictError(f"size_classes must be {rule}; got {len(names)}. Give the class of every piece, or none at all.")
    return [_detection("", found, level)] + [_detection(str(name), found[names == name], level) for name in np.unique(names)]


def pieces_needed(share: float, level: float = 0.95) -> int:
    """The fewest bad pieces which, all flagged, say that at least `share` is found: the least n with share^n <= 1 - level.

    >>> pieces_needed(0.90), pieces_needed(0.95), pieces_needed(0.99)
    (29, 59, 299)
    """
    if not (0 < share < 1 and 0 < level < 1):
        raise VerdictError(f"share must be above 0 and below 1, like level; got {(share, level)!r}. 0.9 at 0.95 is usual.")
    guess = max(1, math.floor(math.log1p(-level) / math.log(share)))
    return guess if at_least(guess, guess, level) >= share else guess + 1


def decisions(flagged: ArrayLike, bad: ArrayLike, level: float = 0.95) -> Decisions:
    """False calls and escapes of pieces whose truth is known.

    Assumes independent pieces, each in one row: with several images a piece use `image_share`. Guarantees each interval with
    probability `level`, for any true share.

    Args:
        flagged, bad: of every piece, (N,) bool.

    >>> found = decisions(flagged=[True, False, False, True], bad=[False, False, False, True])
    >>> print(found.false_calls, found.escapes, sep="; ")
    1 of 3 (0.84 to 90.6 %); 0 of 1 (0 to 97.5 %)
    """
    called, truth = _bools("flagged", flagged), _bools("bad", bad)
    if called.shape != truth.shape:
        rule = f"as long as flagged, {len(called)}"
        raise VerdictError(f"bad must be {rule}; got {len(truth)}. Give the truth of every piece.")
    false_calls = two_sided(int((called & ~truth).sum()), int((~truth).sum()), level)
    return Decisions(false_calls, two_sided(int((~called & truth).sum()), int(truth.sum()), level))


def image_share(flagged: ArrayLike, pieces: Sequence[object], level: float = 0.95) -> Share:
    """Flagged images, with an exact interval of the mean over pieces of the share of their images that are flagged.

    A piece's share lies between "all of its images" (0 or 1) and "any of them" (0 or 1). So the interval runs from the lower
    bound of the share of pieces with all images flagged to the upper bound of the share of pieces with any: exact for images
    of a piece that are alike in any way, and wide if they are not alike. With one image a piece it is Clopper and Pearson's.
    Assumes independent pieces. Guarantees `level` for any true share. For images that are not flagged, give ~flagged.

    Args:
        flagged: of every image, (N,) bool.  pieces: of every image, (N,).

    >>> print(image_share([True, True, False, False], pieces=["a", "a", "b", "b"]))
    2 of 4 (1.26 to 98.7 %)
    """
    called = _bools("flagged", flagged)
    if len(pieces) != len(called):
        rule = f"one for each of {len(called)} images"
        raise VerdictError(f"pieces must be {rule}; got {len(pieces)}. Give the piece of every image.")
    _, code = np.unique(np.asarray(pieces, dtype=str), return_inverse=True)
    images = np.bincount(code)
    hits = np.bincount(code, weights=called)
    each = (1 + level) / 2
    low, high = at_least(int((hits == images).sum()), len(images), each), at_most(int((hits > 0).sum()), len(images), each)
    return Share(int(called.sum()), len(called), float(low), float(high))


def _detection(name: str, found: NDArray[np.bool_], level: float) -> Detection:
    flagged, pieces = int(found.sum()), len(found)
    return Detection(name, flagged, pieces, float(at_least(flagged, pieces, level)))


def _bools(field: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype != bool):
        raise VerdictError(f"{field} must be a list of booleans; got {values!r}. Give one a row.")
    return array.astype(bool)
