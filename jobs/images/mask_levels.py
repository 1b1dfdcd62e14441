"""Decides which values of a mask are defect: all that are not background, and background is 0.

People write 255, 1, 100, a value for each class, or grey edges. An ambiguous mask is refused, since a mask that is read
wrongly gives a figure that nobody would doubt.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jobs.command.errors import CommandError
from models.metrics.aupro import EIGHT_CONNECTED, MASK_THRESHOLD, binary_mask

LABELS = 32  # smaller integers are numbers of classes, not brightness
MOST_CLASSES = 32
MOST_LOW_CLASSES = 4  # classes with values close to 0; the noise of a JPEG has more values there
FLAT_SHARE = 0.05  # of the pixels between background and maximum, the least share in areas of one value
UNDECIDED_SHARE = 0.1  # of a mask; the real tiles' grey edges are below 0.01, a photograph is mostly in between
UNSURE_LIMIT = 0.25  # of a JPEG's defect pixels; at quality 50, 99 % of the tiles' masks are below 0.07

Kind = Literal["empty", "binary", "classes", "grey", "lossy"]


class MaskError(CommandError, ValueError):
    """A mask cannot be read; the message is a full sentence with its file."""


@dataclass(frozen=True)
class Defect:
    """A mask as read. pixels: (H, W) bool, True where defective.  kind: how its values were read.

    unsure: pixels of a lossy mask between a quarter and three quarters of its maximum.
    faint: areas of a grey or lossy mask that stay below the threshold, and so count as background.
    upright: whether the file's own EXIF orientation has been applied.
    """

    pixels: NDArray[np.bool_]
    kind: Kind
    unsure: int = 0
    faint: int = 0
    upright: bool = False


def defect_of(levels: NDArray[np.integer | np.floating], white: float, lossy: bool) -> Defect:
    """The defect pixels of a mask's values.

    Args:
        levels: (H, W), finite, at least 0.
        white: the value of full brightness: 255 for 8 bits, 65535 for 16.
        lossy: whether the values come from a JPEG, which changes them.
    Raises:
        MaskError: the rule and the finding; the caller puts "must be a mask " before it.
    """
    values = np.unique(levels).astype(np.float64)  # products of 8 bits would overflow
    top = float(values[-1])
    if not top:
        return Defect(np.zeros(levels.shape, bool), "empty")
    if lossy:
        return _lossy(levels, top, white)
    if np.count_nonzero(values) == 1:
        return Defect(levels > 0, "binary")
    if (top < LABELS and np.array_equal(values, np.round(values))) or _are_classes(levels, values, top):
        return Defect(levels > 0, "classes")
    return _grey(levels, top, white)


def _are_classes(levels: NDArray[np.integer | np.floating], values: NDArray[np.float64], top: float) -> bool:
    """Whether values other than the largest stand for classes. Classes fill areas; the values of smooth edges do not.

    Raises MaskError if classes have smooth edges, and for many small values, which may be a JPEG's noise.
    """
    flat = np.equal(ndimage.maximum_filter(levels, 3), ndimage.minimum_filter(levels, 3))  # a pixel and its 8 neighbours

    def fill_areas(chosen: NDArray[np.bool_]) -> bool:
        return bool(chosen.any() and flat[chosen].mean() >= FLAT_SHARE)

    low = (levels > 0) & (levels <= top / 8)
    if fill_areas((levels > top / 8) & (levels < top * 7 / 8)):
        if len(values) > MOST_CLASSES:
            raise MaskError(f"with one value a class or smooth edges, not both; it has {len(values)} values")
        return True
    if fill_areas(low) and np.count_nonzero(values) > MOST_LOW_CLASSES:
        if np.count_nonzero(low) > np.count_nonzero(levels == 0):
            return False  # it is the background itself, which some JPEGs brighten by a level
        raise MaskError(f"without areas that are nearly black; it has {len(values)} values, classes or the noise of a JPEG")
    return fill_areas(low) or bool(values[values > 0].min() >= top * 7 / 8)


def _lossy(levels: NDArray[np.integer | np.floating], top: float, white: float) -> Defect:
    if top * 255 < LABELS * white:
        raise MaskError(f"with bright defects, as a JPEG keeps no small values; its largest is {top:g}")
    _check_decided(levels, top)
    pixels = levels >= top / 2
    unsure = int(np.count_nonzero((levels >= top / 4) & (levels < top * 3 / 4)))
    if unsure > np.count_nonzero(pixels) * UNSURE_LIMIT and unsure > levels.size / 1000:
        raise MaskError(f"of two values; {unsure} pixels of this JPEG lie between its background and its maximum of {top:g}")
    return Defect(pixels, "lossy", unsure, _faint(levels, top, pixels))


def _grey(levels: NDArray[np.integer | np.floating], top: float, white: float) -> Defect:
    if top * 255 <= MASK_THRESHOLD * white:
        raise MaskError(f"of two values, of one value a class, or grey up to white; it has grey values up to {top:g}")
    _check_decided(levels, top)
    pixels = binary_mask(levels * (255 / white))
    return Defect(pixels, "grey", faint=_faint(levels, top, pixels))


def _check_decided(levels: NDArray[np.integer | np.floating], top: float) -> None:
    share = np.mean((levels > top / 8) & (levels < top * 7 / 8))
    if share > UNDECIDED_SHARE:
        raise MaskError(
            f"with a dark background and bright defects; {share:.0%} of its pixels are in between, as in a photograph"
        )


def _faint(levels: NDArray[np.integer | np.floating], top: float, pixels: NDArray[np.bool_]) -> int:
    areas, count = ndimage.label(levels > top / 8, structure=EIGHT_CONNECTED)
    return int(count - len(np.unique(areas[pixels & (areas > 0)])))
