"""Reads the defect pixels of one mask file of any program, or says in one sentence why it cannot."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from jobs.images.mask_levels import Defect, MaskError, defect_of
from models.config import FULL_16_BIT
from pipeline.decode.exif import TURNS, orientation
from pipeline.decode.faults import FAULTS, Undecodable
from pipeline.decode.image_file import MIN_IS_WHITE, PHOTOMETRIC, load_8bit, open_image

MAX_MASK_PIXELS = 1 << 27
FULL_32_BIT = (1 << 31) - 1
GREY = {"1", "L"}
NUMBERS = {"I", "F"}
DEEP_GREY = {"I;16", "I;16L", "I;16B", "I;16N"} | NUMBERS
COLOUR = {"P", "RGB", "RGBX", "YCbCr"}
ALPHA = {"LA", "PA", "RGBA", "RGBa"}
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, SOFTWARE = 258, 277, 305
REWRITE = "Write it with 0 for the background and 255 for the defect."

Levels = NDArray[np.integer | np.floating]


def read_mask(path: Path) -> Defect:
    """The defect pixels of one mask file, turned as its own EXIF orientation says.

    Raises MaskError, a sentence with the path, if the file is damaged or its values could mean several things.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise MaskError(f"{path} must be a mask that can be read; {error.strerror}. Repair or remove it.") from error
    try:
        image = _opened(encoded)
        _check_depth(image, encoded)
        lossy = image.format in ("JPEG", "MPO")
        levels, white = (_jpeg_levels(image, encoded), 255.0) if lossy else _levels(image)
        defect = defect_of(levels, white, lossy)
        if defect.kind == "binary" and image.mode in COLOUR and _colours(image, defect.pixels) > 1:
            defect = replace(defect, kind="classes")
        if defect.pixels.all() and not _one_value(levels, image, lossy):
            raise MaskError("that is black (0) where there is no defect; it has no black pixel")
    except Undecodable as fault:
        raise MaskError(f"{path} must be a mask that can be read; {fault}. Write it again, or remove it.") from fault
    except MaskError as fault:
        raise MaskError(f"{path} must be a mask {fault}. {REWRITE}") from fault
    turn = TURNS.get(orientation(image))
    return defect if turn is None else replace(defect, pixels=turned(defect.pixels, turn), upright=True)


def _opened(encoded: bytes) -> Image.Image:
    """The image, loaded unless it is a JPEG; it may also be an array of numbers. Raises Undecodable."""
    try:
        return open_image(encoded, MAX_MASK_PIXELS, FULL_16_BIT)
    except Undecodable as fault:
        image = _of_numbers(encoded) if fault.error == "unsupported_format" else None
        if image is None:
            raise
        return image


def _of_numbers(encoded: bytes) -> Image.Image | None:
    """A TIFF of one array of 32-bit integers or floats, as programs write labels; None for anything else."""
    try:
        image = Image.open(BytesIO(encoded), formats=["TIFF"])
        if image.mode not in NUMBERS or image.width * image.height > MAX_MASK_PIXELS or getattr(image, "n_frames", 1) > 1:
            return None
        image.load()
    except FAULTS:
        return None
    return image


def turned(pixels: NDArray[np.bool_], turn: Image.Transpose) -> NDArray[np.bool_]:
    """The (H, W) mask mirrored or rotated; (W, H) if the turn swaps the sides."""
    return np.asarray(Image.fromarray(pixels).transpose(turn))


def _check_depth(image: Image.Image, encoded: bytes) -> None:
    """Refuses colour and alpha of 16 bits: Pillow reads their high bytes only, in which small values are 0."""
    deep = False
    if image.format == "PNG":
        deep = encoded[24] == 16 and encoded[25] != 0  # bit depth and colour type of IHDR
    elif isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
        deep = image.tag_v2.get(SAMPLES_PER_PIXEL, 1) > 1 and max(bits) > 8
    if deep:
        raise MaskError("that is grey, or colour of 8 bits; it has colour or alpha of 16 bits")


def _jpeg_levels(image: Image.Image, encoded: bytes) -> Levels:
    pixels = load_8bit(image, encoded, image.size, FULL_16_BIT)
    return pixels if pixels.ndim == 2 else pixels.max(axis=2)  # (H, W)


def _levels(image: Image.Image) -> tuple[Levels, float]:
    """The values, (H, W), and the value of white. Colour counts by its largest channel, weighted by alpha if there is one."""
    if image.mode in DEEP_GREY:
        return _deep_grey(image)
    if image.mode in ALPHA or "transparency" in image.info:
        return _with_alpha(image), 255.0
    if image.mode in GREY:
        levels = np.asarray(image.convert("L"))
        return (255 - levels if image.mode == "1" and _raw_bool(image) else levels), 255.0
    if image.mode not in COLOUR:
        raise MaskError(f"that is grey, palette, RGB or RGBA; its pixels are of mode {image.mode}")
    levels = np.asarray(image.convert("RGB")).max(axis=2)  # (H, W)
    if image.mode == "P":
        indices = np.asarray(image)
        if len(np.unique(indices[levels == 0])) > 1:
            raise MaskError("with one colour for the background; its palette shows several values as black")
    return levels, 255.0


def _raw_bool(image: Image.Image) -> bool:
    """Whether True is 1 although the file says that 0 is white: tifffile and scikit-image write bool arrays like this."""
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(PHOTOMETRIC) != MIN_IS_WHITE:
        return False
    return str(image.tag_v2.get(SOFTWARE, "")).startswith("tifffile")


def _deep_grey(image: Image.Image) -> tuple[Levels, float]:
    if "transparency" in image.info:
        raise MaskError("that is grey without a transparent value; it has 16 bits and such a value")
    levels: Levels = np.asarray(image)
    levels = levels.astype(np.float32) if image.mode == "F" else levels.astype(np.int64)
    if not np.isfinite(levels).all() or levels.min() < 0:
        raise MaskError("of numbers from 0 on; it has numbers that are negative or not finite")
    if image.mode == "F":
        return levels, 1.0 if levels.max() <= 1 else 255.0
    if image.mode != "I" and isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == MIN_IS_WHITE:
        levels = FULL_16_BIT - levels
    return levels, next(white for white in (255.0, float(FULL_16_BIT), float(FULL_32_BIT)) if levels.max() <= white)


def _with_alpha(image: Image.Image) -> Levels:
    """The values composed over black, (H, W); refused if colour or alpha alone could be meant."""
    samples = np.asarray(image.convert("RGBA")).astype(np.uint16)  # (H, W, 4)
    colour, alpha = samples[:, :, :3].max(axis=2), samples[:, :, 3]
    if not alpha.any() and np.ptp(samples.reshape(-1, 4), axis=0).any():
        raise MaskError("that can be seen; its alpha channel is 0 everywhere, its colour is not")
    if alpha.min() < alpha.max() and not (colour * alpha).any():
        raise MaskError("with bright defects; all that can be seen of it is black")
    return colour * (alpha / 255)


def _colours(image: Image.Image, pixels: NDArray[np.bool_]) -> int:
    """The number of colours in the defect pixels."""
    samples = np.asarray(image.convert("RGB"))[pixels].astype(np.uint32)  # (N, 3)
    return len(np.unique(samples @ np.array([1 << 16, 1 << 8, 1], np.uint32)))


def _one_value(levels: Levels, image: Image.Image, lossy: bool) -> bool:
    """Whether all pixels are alike (nearly, in a JPEG), so that the mask covers its image."""
    samples = np.asarray(image.convert("RGBA") if image.mode in ALPHA | COLOUR else image)  # (H, W[, 4])
    spread = np.ptp(samples.reshape(samples.shape[0] * samples.shape[1], -1).astype(np.float64), axis=0)
    return bool(spread.max() <= (32 if lossy else 0))
