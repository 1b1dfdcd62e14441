"""Decodes images to uint8 pixels of the model's input size, or of their own size to cut tiles from. Training and scoring both
decode here."""

import warnings
from datetime import datetime
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.maps.content_box import Box, content_box
from models.roi.region import FILL, RegionOfInterest, inside
from pipeline.decode.config import DecodeConfig
from pipeline.decode.exif import SIDEWAYS, TURNS, UPRIGHT, captured_at, orientation
from pipeline.decode.faults import Undecodable
from pipeline.decode.geometry import tiled_size
from pipeline.decode.image_file import load_8bit, open_image
from pipeline.decode.resize import resized

OTHER_SHAPE = "other_shape"  # of an image that the mask of the region of interest does not fit
STRIP_PIXELS = 1 << 22  # of a large image, measured together
DCT_MARGIN = 3  # a JPEG is reduced while decoding to no less than 3 times the input: 0.4 levels of difference on average


class Picture(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB, of the input's size, or for `tile` of the image's own.
    width, height: of the stored image after EXIF orientation, px.
    brightness, contrast, sharpness: of the pixels, or of those inside the region of interest.
    """

    pixels: np.ndarray
    width: int
    height: int
    captured_at: datetime | None
    brightness: float
    contrast: float
    sharpness: float


def decode_image(encoded: bytes, config: DecodeConfig) -> Picture:
    """One image turned upright, reduced to 8-bit RGB and resized. Raises Undecodable, and MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of Pillow becomes a fault here or does not matter
        return _decode_image(encoded, config)


def _decode_image(encoded: bytes, config: DecodeConfig) -> Picture:
    image = open_image(encoded, config.max_image_pixels, config.white_level)
    turn = orientation(image)
    stored = image.size[::-1] if turn in SIDEWAYS else image.size
    taken = captured_at(image, config.timezone)
    box = content_box(stored, config)
    width, height = tiled_size(stored, config) if config.resize == "tile" else (box.width, box.height)
    if config.roi is not None and not config.roi.fits(stored[1], stored[0]):
        size, mask = f"{stored[0]} x {stored[1]} pixels", f"{config.roi.width} x {config.roi.height}"
        raise Undecodable(OTHER_SHAPE, f"the image has {size}; the mask of what counts is for the shape of {mask}")
    if config.resize == "tile" and width * height > config.max_image_pixels:
        size = f"{width} x {height} pixels at scale {config.scale:g}"
        raise Undecodable("too_many_pixels", f"the image has {size}; the limit is {config.max_image_pixels}")
    target = (height, width) if turn in SIDEWAYS else (width, height)
    levels = load_8bit(image, encoded, (target[0] * DCT_MARGIN, target[1] * DCT_MARGIN), config.white_level)
    if config.roi is not None:  # before the resize, which mixes neighbours
        levels, turn, target = _seen(_upright(levels, turn), config.roi), UPRIGHT, (width, height)
    levels = _upright(resized(levels, *target), turn)
    if config.resize == "pad":
        levels = _pad(levels, box, config)
    grey = levels if levels.ndim == 2 else np.asarray(Image.fromarray(levels).convert("L"))
    pixels = levels if levels.ndim == 3 else np.broadcast_to(levels[:, :, None], (*levels.shape, 3))  # (H, W, 3)
    return Picture(pixels, *stored, taken, *grey_statistics(grey, inside(config)))


def grey_statistics(grey: np.ndarray, counted: np.ndarray | None = None) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness (schemas/commit.py) of (H, W) uint8, strip by strip.

    counted: (H, W) bool, the pixels that count; None: all. An edge counts where its pixel and all four neighbours do.

    All sums are of integers below 2^53, exact in float64 in any order, so they are the same on every machine.
    """
    rows = max(1, STRIP_PIXELS // grey.shape[1])
    counts, sums = [0, 0], [[0, 0], [0, 0]]
    for top in range(0, len(grey), rows):
        strip = slice(max(0, top - 1), top + rows + 1)  # with one neighbouring row on each side
        levels = grey[strip].astype(np.int16)
        edges = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * levels[1:-1, 1:-1]
        measured = [grey[top : top + rows], edges]
        if counted is not None:
            kept = counted[strip]
            around = kept[:-2, 1:-1] & kept[2:, 1:-1] & kept[1:-1, :-2] & kept[1:-1, 2:] & kept[1:-1, 1:-1]
            measured = [measured[0][counted[top : top + rows]], edges[around]]
        for i, values in enumerate(measured):
            numbers = values.ravel().astype(np.float64)
            counts[i] += numbers.size
            sums[i][0] += int(numbers.sum())
            sums[i][1] += int(np.vdot(numbers, numbers))
    brightness, contrast = mean_variance(counts[0], *sums[0])
    return brightness, contrast**0.5, mean_variance(counts[1], *sums[1])[1] if counts[1] else 0.0


def mean_variance(count: int, total: int, squares: int) -> tuple[float, float]:
    """Of numbers with this sum and this sum of squares."""
    return total / count, (squares * count - total * total) / count**2


def _upright(levels: np.ndarray, turn: int) -> np.ndarray:
    return np.asarray(Image.fromarray(levels).transpose(TURNS[turn])) if turn in TURNS else levels


def _seen(levels: np.ndarray, roi: RegionOfInterest) -> np.ndarray:
    """Upright (H, W) or (H, W, 3), one grey level outside the region."""
    mask = roi.at_size(*levels.shape[:2])
    return np.where(mask if levels.ndim == 2 else mask[:, :, None], levels, np.uint8(FILL))


def _pad(levels: np.ndarray, box: Box, config: DecodeConfig) -> np.ndarray:
    """(h, w[, 3]) in its box of (H, W[, 3]), the edge pixels repeated outwards."""
    if (box.width, box.height) == (config.width, config.height):
        return levels
    around = [(box.top, config.height - box.bottom), (box.left, config.width - box.right)]
    return np.pad(levels, around + [(0, 0)] * (levels.ndim - 2), mode="edge")
