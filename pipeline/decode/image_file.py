"""Encoded bytes to a grey or colour picture of 8 bits a sample, or the reason why not. Trusts nothing in the bytes."""

import struct
import zlib
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

FORMATS = {  # first bytes by format; nothing else is ever handed to a decoder
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
OTHERS = {b"GIF8": "GIF", b"RIFF": "WebP", b"%PDF": "PDF", b"\0\0\0\x0cjP": "JPEG 2000", b"<svg": "SVG", b"%!PS": "PostScript"}
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
SIXTEEN_BIT = {"I;16", "I;16L", "I;16B"}
FULL_16_BIT = 65535
MESSAGE_LENGTH = 300  # of a library's message; some quote the file
MIN_IS_WHITE, PHOTOMETRIC = 0, 262
FAULTS = (  # what Pillow's plugins raise for damaged files, found by damaging files
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(RuntimeError, ZeroDivisionError, MemoryError, AssertionError, struct.error, zlib.error),
)
NO_MEMORY = ("insufficient memory", "out of memory", "decoder error -9")  # libjpeg's, Pillow's and, for TIFF, Pillow's words
HARMLESS = "extraneous bytes before marker 0xd9"  # padding that some cameras leave before the end marker

LEAST_REDUCTION = 2  # of a JPEG while it is decoded: 5/8 to 7/8 take longer than all of it, and blur for it

ImageFile.LOAD_TRUNCATED_IMAGES = False  # other libraries switch it on; half an image must not be scored
Image.MAX_IMAGE_PIXELS = None  # our own limit stands instead, before any pixel is decoded


class Undecodable(Exception):
    """The image cannot be scored; `error` is the reason code, the message a sentence."""

    def __init__(self, error: str, message: str):
        super().__init__(message)
        self.error = error


def open_image(encoded: bytes, max_image_pixels: int, white_level: int) -> Image.Image:
    """The image: checked and loaded, a JPEG by its header only (`load_8bit` may reduce it while it decodes it).

    Raises:
        Undecodable: empty, not_an_image, unsupported_format, truncated, corrupt, too_many_pixels, too_much_memory,
            several_images, unsupported_mode (colour of 16 bits with another `white_level` than 65535).
    """
    if not encoded:
        raise Undecodable("empty", "the object has no bytes")
    name = next((name for name, starts in FORMATS.items() if encoded.startswith(starts)), None)
    if name is None:
        other = next((other for start, other in OTHERS.items() if encoded.startswith(start)), None)
        if other:
            raise Undecodable("unsupported_format", f"the file is {other}; JPEG, PNG, BMP and TIFF are scored")
        raise Undecodable("not_an_image", f"the bytes are no JPEG, PNG, BMP or TIFF; they begin with {encoded[:8]!r}")
    try:
        image = Image.open(BytesIO(encoded), formats=[name])
        frames = 1 if name == "JPEG" else getattr(image, "n_frames", 1)  # a JPEG's other pictures are previews
        width, height = image.size
        if width * height > max_image_pixels:
            size = f"{width} x {height} pixels"
            raise Undecodable("too_many_pixels", f"the image has {size}; the limit is {max_image_pixels}")
        if frames > 1:
            raise Undecodable("several_images", f"the {name} file holds {frames} images; which one to score is not clear")
        if "RGB" in image.mode and white_level != FULL_16_BIT and any("16" in str(tile[3]) for tile in image.tile):
            raise Undecodable("unsupported_mode", f"colour of 16 bits is not scaled to white_level {white_level}")
        if name == "PNG":
            _check_png(encoded)
        if name != "JPEG":  # before anything asks for EXIF: a PNG's may stand behind the pixels
            image.load()
    except FAULTS as error:
        raise damaged(name, error) from error
    return image


def load_8bit(image: Image.Image, encoded: bytes, min_size: tuple[int, int], white_level: int) -> np.ndarray:
    """The pixels, (H, W) of grey or (H, W, 3) RGB, uint8.

    Alpha and transparent colours are composed over black. Grey of 16 bits is scaled linearly, 0 to 0 and `white_level`
    to 255; colour of 16 bits keeps its high byte. CMYK is converted as Pillow does, Adobe's inverted one included.

    Args:
        min_size: (width, height) that a JPEG may be reduced to while it is decoded, to 4, 3, 2 or 1 eighths in the DCT.
    Raises:
        Undecodable: truncated, corrupt, too_much_memory, unsupported_mode.
    """
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):  # MPO: a JPEG with further pictures behind it
        pixels = _load_jpeg(encoded, image.mode, min_size)
        if pixels is not None:
            return pixels
    try:
        image.load()
        return np.asarray(_to_8bit(image, white_level))
    except FAULTS as error:
        raise damaged(image.format or "image", error) from error


def _check_png(encoded: bytes) -> None:
    """Checksums of the chunks that pixels depend on; Pillow leaves out those of the pixel data."""
    start = 8
    while start < len(encoded):
        length, kind = int.from_bytes(encoded[start : start + 4], "big"), encoded[start + 4 : start + 8]
        end = start + 8 + length
        if end + 4 > len(encoded):
            raise Undecodable("truncated", "the PNG is damaged: it ends within a chunk")
        needed = kind[:1].isupper() or kind == b"tRNS"
        if needed and zlib.crc32(memoryview(encoded)[start + 4 : end]) != int.from_bytes(encoded[end : end + 4], "big"):
            raise Undecodable("corrupt", f"the PNG is damaged: the checksum of its {kind.decode('latin-1')} chunk is wrong")
        if kind == b"IEND":
            return
        start = end + 4


def _load_jpeg(encoded: bytes, mode: str, min_size: tuple[int, int]) -> np.ndarray | None:
    """By libjpeg-turbo in strict mode: Pillow passes over damage that libjpeg warns of. None: Pillow may decide.

    Damage that leaves the Huffman codes valid cannot be noticed: a JPEG has no checksum.
    """
    width, height = min_size
    try:
        colorspace = "GRAY" if mode == "L" else "RGB"
        pixels = simplejpeg.decode_jpeg(encoded, colorspace, min_height=height, min_width=width, min_factor=LEAST_REDUCTION)
    except ValueError as error:
        if HARMLESS in str(error):
            return None
        raise damaged("JPEG", error) from error
    return pixels.squeeze(2) if mode == "L" else pixels


def _to_8bit(image: Image.Image, white_level: int) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        return _grey_16bit(image, white_level)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in ("P", "RGB", "CMYK", "YCbCr", "RGBX"):
        return image.convert("RGB")
    raise Undecodable("unsupported_mode", f"pixels of mode {image.mode!r} (float, 32 bit or Lab) are not supported")


def _grey_16bit(image: Image.Image, white_level: int) -> Image.Image:
    levels = np.asarray(image).astype(np.uint32)
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == MIN_IS_WHITE:
        levels = FULL_16_BIT - levels
    scaled = (np.minimum(levels, white_level) * 255 + white_level // 2) // white_level
    return Image.fromarray(scaled.astype(np.uint8))


def damaged(name: str, error: BaseException) -> Undecodable:
    """What an error of a library means for the image, by its type and words."""
    reason = str(error)[:MESSAGE_LENGTH] or type(error).__name__
    if isinstance(error, MemoryError) or any(words in reason.lower() for words in NO_MEMORY):
        return Undecodable("too_much_memory", f"decoding the {name} takes more memory than the decoder may have")
    if isinstance(error, UnidentifiedImageError):  # its own message holds a memory address
        reason = "its header cannot be read"
    cut = any(word in reason.lower() for word in ("truncated", "premature end of jpeg", "eof"))
    return Undecodable("truncated" if cut or isinstance(error, EOFError) else "corrupt", f"the {name} is damaged: {reason}")
