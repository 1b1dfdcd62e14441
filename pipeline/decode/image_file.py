"""Turns encoded bytes into a grey or colour picture of 8 bits a sample, or a reason why not. Trusts nothing in the bytes."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from models.config import FULL_16_BIT
from pipeline.decode.faults import FAULTS, Undecodable, damaged, unsupported
from pipeline.decode.formats import bmp, jpeg, png, tiff
from pipeline.decode.formats.first_bytes import format_of

ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
SIXTEEN_BIT = {"I;16", "I;16L", "I;16B"}
MIN_IS_WHITE, BITS_PER_SAMPLE, PHOTOMETRIC, EXTRA_SAMPLES = 0, 258, 262, 338

ImageFile.LOAD_TRUNCATED_IMAGES = False  # other libraries switch it on; half an image must not be scored
Image.MAX_IMAGE_PIXELS = None  # our own limit applies instead, before any pixel is decoded


def open_image(encoded: bytes, max_image_pixels: int, white_level: int) -> Image.Image:
    """The image, checked and loaded; a JPEG only up to its header (`load_8bit` may reduce it while decoding).

    Raises:
        Undecodable: empty, not_an_image, unsupported_format, truncated, corrupt, too_many_pixels, too_much_memory,
            several_images, unsupported_mode (16 bits of colour or with alpha and another `white_level` than 65535).
    """
    name = format_of(encoded)
    try:
        image = _opened(name, encoded)
        frames = getattr(image, "n_frames", 1) if name == "PNG" else 1  # a JPEG's other pictures are previews
        width, height = image.size
        if width * height > max_image_pixels:
            size = f"{width} x {height} pixels"
            raise Undecodable("too_many_pixels", f"the image has {size}; the limit is {max_image_pixels}")
        if frames > 1:
            raise Undecodable("several_images", f"the {name} file holds {frames} images; which one to score is not clear")
        if white_level != FULL_16_BIT and image.mode not in SIXTEEN_BIT and _stores_16bit(image):
            raise Undecodable("unsupported_mode", f"16 bits of mode {image.mode} are not scaled to white_level {white_level}")
        if name == "PNG":
            png.check(encoded)
        if name != "JPEG":  # before anything asks for EXIF, which may stand behind the pixels of a PNG
            image.load()
    except FAULTS as error:
        raise damaged(name, error) from error
    return image


def load_8bit(image: Image.Image, encoded: bytes, min_size: tuple[int, int], white_level: int) -> np.ndarray:
    """The pixels, (H, W) of grey or (H, W, 3) RGB, uint8.

    Alpha and transparent colours are composed over black. Grey of 16 bits is scaled linearly, 0 to 0 and `white_level`
    to 255; a file that names fewer bits is scaled by them. Colour of 16 bits keeps its high byte. CMYK is converted as
    in Pillow, including Adobe's inverted form.

    Args:
        min_size: (width, height) that a JPEG may be reduced to while it is decoded, to 4, 3, 2 or 1 eighths in the DCT.
    Raises:
        Undecodable: truncated, corrupt, too_much_memory, unsupported_format, wholly_transparent.
    """
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB", "CMYK"):  # MPO: a JPEG with further pictures behind it
        pixels = jpeg.load(encoded, image.mode, min_size)
        if pixels is not None:
            return pixels
    try:
        image.load()
        return _to_8bit(image, encoded, white_level)
    except FAULTS as error:
        raise damaged(image.format or "image", error) from error


def stores_16bit(encoded: bytes) -> bool:
    """Whether a readable picture stores 16 bits a sample; looks at its header only."""
    name = format_of(encoded)
    if name not in ("PNG", "TIFF"):
        return False
    image = _opened(name, encoded)
    return _stores_16bit(image)


def _stores_16bit(image: Image.Image) -> bool:
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    raw_modes = [tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in tiles]
    return any(";16" in str(raw_mode) for raw_mode in raw_modes)


def _opened(name: str, encoded: bytes) -> Image.Image:
    if name == "TIFF":
        return tiff.opened(tiff.picture(encoded))
    if name == "BMP":
        return bmp.opened(encoded)
    if name == "JPEG":
        jpeg.check_kind(encoded)
    return Image.open(BytesIO(encoded), formats=[name])


def _to_8bit(image: Image.Image, encoded: bytes, white_level: int) -> np.ndarray:
    if image.mode in SIXTEEN_BIT:
        return _grey_16bit(image, encoded, white_level)
    if image.format == "PNG" and image.mode == "RGB" and _colour_16bit_matters(image, encoded):
        return _colour_16bit(image, encoded)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _over_black(image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode in ("P", "RGB", "CMYK", "YCbCr", "RGBX"):
        return np.asarray(image.convert("RGB"))
    raise unsupported(f"a {image.format} with pixels of mode {image.mode!r}")


def _over_black(image: Image.Image) -> np.ndarray:
    picture = image.convert("RGBA")
    if picture.getchannel("A").getextrema() == (0, 0):
        if not _alpha_may_be_unused(image):
            raise _wholly_transparent()
        return np.asarray(picture.convert("RGB"))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB"))


def _alpha_may_be_unused(image: Image.Image) -> bool:
    """Whether the file may hold a fourth channel without meaning: a BMP's bit fields often name one that was never filled,
    and a TIFF must say what its fourth sample is."""
    return image.format == "BMP" or (isinstance(image, TiffImageFile) and not image.tag_v2.get(EXTRA_SAMPLES))


def _wholly_transparent() -> Undecodable:
    return Undecodable("wholly_transparent", "every pixel of the image is transparent; there is nothing to score")


def _grey_16bit(image: Image.Image, encoded: bytes, white_level: int) -> np.ndarray:
    stored = np.asarray(image)
    inverted = False
    if isinstance(image, TiffImageFile):
        inverted = image.tag_v2.get(PHOTOMETRIC) == MIN_IS_WHITE
        white = min(white_level, (1 << image.tag_v2[BITS_PER_SAMPLE][0]) - 1)
    else:
        white = png.white(stored, encoded, white_level)
    levels = np.minimum(stored.astype(np.uint32), white)
    levels = white - levels if inverted else levels  # the range that is inverted is the one that is used
    scaled = ((levels * 255 + white // 2) // white).astype(np.uint8)
    if "transparency" not in image.info:
        return scaled
    return _without(scaled, stored == image.info["transparency"])


def _colour_16bit_matters(image: Image.Image, encoded: bytes) -> bool:
    """Whether the low bytes of an RGB PNG matter beyond rounding: they tell the transparent colour, or hold all levels."""
    deep = encoded[png.DEPTH_AT] == 16
    return deep and ("transparency" in image.info or png.significant_bits(encoded) is not None)


def _colour_16bit(image: Image.Image, encoded: bytes) -> np.ndarray:
    levels = png.colour_16bit(encoded)
    white = png.white(levels, encoded, FULL_16_BIT)
    if white == FULL_16_BIT:
        scaled = (levels >> 8).astype(np.uint8)
    else:
        scaled = ((np.minimum(levels, white).astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    if "transparency" not in image.info:
        return scaled
    return _without(scaled, (levels == np.asarray(image.info["transparency"], np.uint16)).all(axis=2))


def _without(pixels: np.ndarray, transparent: np.ndarray) -> np.ndarray:
    if transparent.all():
        raise _wholly_transparent()
    pixels[transparent] = 0
    return pixels
