"""Reads the mask of --roi: which part of the images a model is to look at."""

from pathlib import Path

import numpy as np
from PIL import Image

from jobs.command.errors import UsageError
from models.config import FULL_16_BIT
from models.roi.region import MOST_PIXELS, Mask, RegionOfInterest
from pipeline.decode.exif import TURNS, orientation
from pipeline.decode.faults import Undecodable
from pipeline.decode.image_file import load_8bit, open_image

FLAG = "--roi"
STORED = {"1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}  # Pillow's modes whose values are the file's own


def read_region(path: Path) -> RegionOfInterest:
    """The pixels of a mask file that are not 0, upright as its EXIF orientation says. Raises UsageError."""
    try:
        encoded = path.read_bytes()
        image = open_image(encoded, MOST_PIXELS, FULL_16_BIT)
    except OSError as error:
        raise UsageError(FLAG, "a mask image", str(path), f"It cannot be read: {error.strerror}. Correct the path.") from error
    except Undecodable as fault:
        raise _unreadable(path, fault) from fault
    if image.format in ("JPEG", "MPO"):
        fix = "A JPEG's noise makes black pixels count as inside: save it as PNG."
        raise UsageError(FLAG, "a mask image of a format that loses nothing", str(path), fix)
    try:
        mask = _inside(image, encoded)
    except Undecodable as fault:
        raise _unreadable(path, fault) from fault
    turn = TURNS.get(orientation(image))
    mask = mask if turn is None else np.asarray(Image.fromarray(mask).transpose(turn))
    if not mask.any():
        fix = "All its pixels are 0, so nothing of an image would count. Draw in white what counts."
        raise UsageError(FLAG, "a mask image with pixels that are not 0", str(path), fix)
    if mask.all():
        fix = "None of its pixels is 0, so nothing would be left out. Draw in black what does not count, or leave it out."
        raise UsageError(FLAG, "a mask image with pixels that are 0", str(path), fix)
    try:
        return RegionOfInterest.of(mask)
    except ValueError as error:  # its outline is too long to be kept in a config
        fix = "Its outline is too ragged to be kept in a model. Draw it with plain outlines."
        raise UsageError(FLAG, "a mask image of plain areas", str(path), fix) from error


def _inside(image: Image.Image, encoded: bytes) -> Mask:
    """(H, W), True where a sample is not 0; what is transparent is 0."""
    levels = np.asarray(image) if image.mode in STORED else load_8bit(image, encoded, image.size, FULL_16_BIT)
    found = levels != 0
    return found if found.ndim == 2 else found.any(axis=2)  # (H, W)


def _unreadable(path: Path, fault: Exception) -> UsageError:
    return UsageError(
        FLAG, "a mask image that can be read", str(path), f"{fault}. Write it again as PNG, 0 for what does not count."
    )
