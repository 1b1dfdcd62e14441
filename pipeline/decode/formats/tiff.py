"""TIFF: which directory is the picture, and which kinds of picture are read."""

import threading
from io import BytesIO
from typing import NamedTuple

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from pipeline.decode.faults import Undecodable, unsupported
from pipeline.decode.formats import jpeg
from pipeline.decode.formats.tiff_directory import Directory, chain, inner

READ = {1: "none", 2: "CCITT RLE", 3: "CCITT Group 3", 4: "CCITT Group 4", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate"} | {
    **{32773: "PackBits", 32946: "deflate", 34925: "LZMA", 50000: "Zstandard"},
}
NOT_READ = {9: "JBIG", 10: "JBIG", 32766: "NeXT", 32771: "CCITT RLE in words", 32809: "ThunderScan"} | {
    **{32895: "IT8", 32908: "Pixar film", 32909: "Pixar log", 32947: "DCS", 33003: "JPEG 2000", 33004: "JPEG 2000"},
    **{33005: "JPEG 2000", 33007: "ALT JPEG", 34661: "JBIG", 34676: "SGI LogL", 34677: "SGI LogL", 34712: "JPEG 2000"},
    **{
        34713: "Nikon NEF",
        34718: "Microsoft MDI",
        34887: "LERC",
        34892: "lossy JPEG of a DNG",
        34926: "old Zstandard",
    },
    **{34927: "old WebP", 34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 48124: "Jetraw", 50001: "WebP"},
    **{50002: "JPEG XL", 52546: "JPEG XL"},
}
UNSIGNED = 1
NUMBERS = {2: "signed integers", 3: "float samples", 5: "complex integers", 6: "complex float samples"}  # by SampleFormat
MEANINGS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}  # by PhotometricInterpretation
MEANINGS_NOT_READ = {4: "a mask", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"} | {
    **{32803: "Bayer samples (a colour filter array)", 34892: "linear raw samples", 51177: "a depth map"},
}
DEPTHS = {1, 2, 4, 8, 12, 16}
YCBCR, OLD_JPEG, JPEG_PACKED, UNPACKED, IN_PLANES = 6, 6, 7, 1, 2

_by_libtiff = threading.Lock()


class Picture(NamedTuple):
    """content: the file, its header leading to the directory of the picture."""

    content: bytes
    directory: Directory


def picture(encoded: bytes) -> Picture:
    """The one picture of full size in the file, wherever it stands: cameras and scanners put a thumbnail before it.

    Raises:
        Undecodable: corrupt, several_images, unsupported_format with the kind of the picture.
    """
    main: list[Directory] = []
    directories: list[Directory] = []
    for directory in chain(encoded):
        directories.append(directory)
        found = [one for one in inner(encoded, directory) if not one.reduced and one.pixels > directory.pixels]
        main += found if directory.reduced else [directory, *found]
        if len(main) > 1:
            break
    if not main and len(directories) == 1:  # it cannot be a thumbnail of anything else
        main = directories
    if len(main) != 1:
        count = f"{len(main) or len(directories)} or more"
        raise Undecodable("several_images", f"the TIFF file holds {count} images; which one to score is not clear")
    _check_kind(main[0])
    if main[0].offset == directories[0].offset:
        return Picture(encoded, main[0])
    if directories[0].number("orientation") not in (1, main[0].number("orientation")):
        raise unsupported("a TIFF whose full picture is turned by what another directory says")
    return Picture(main[0].leading_to_it(encoded), main[0])


def opened(found: Picture) -> Image.Image:
    """Pillow's image, not loaded. Raises Undecodable, and what Pillow raises."""
    directory = found.directory
    if directory.number("compression") == JPEG_PACKED:
        for stream in directory.jpeg_streams(found.content):
            jpeg.check_stream(stream)
    planes = directory.number("planar") == IN_PLANES and directory.number("compression") == UNPACKED
    try:
        if not planes:
            return Image.open(BytesIO(found.content), formats=["TIFF"])
        # Pillow's own reader takes 16-bit samples in planes for 8-bit ones; libtiff reads them correctly.
        with _by_libtiff:
            TiffImagePlugin.READ_LIBTIFF = True
            try:
                return Image.open(BytesIO(found.content), formats=["TIFF"])
            finally:
                TiffImagePlugin.READ_LIBTIFF = False
    except UnidentifiedImageError:  # the directory is sound: it was read before
        raise unsupported(f"a TIFF of {_described(directory)}") from None


def _check_kind(directory: Directory) -> None:
    packing, meaning = directory.number("compression"), directory.number("photometric")
    if directory.header.big and directory.big_endian:  # Pillow takes it for a classic TIFF
        raise unsupported("a big-endian BigTIFF")
    depths, formats = directory.depths, directory.formats
    if meaning in MEANINGS_NOT_READ:
        raise unsupported(f"a TIFF of {MEANINGS_NOT_READ[meaning]}")
    if packing not in READ:
        raise unsupported(f"a TIFF packed by {NOT_READ.get(packing, f'compression {packing}')}")
    if meaning not in MEANINGS and packing != OLD_JPEG:  # old JPEG is always YCbCr
        raise unsupported("a TIFF that does not say what its samples mean, or says it by an unknown number")
    if formats != {UNSIGNED}:
        number = next((NUMBERS[one] for one in formats if one in NUMBERS), "samples of an unknown kind")
        raise unsupported(f"a TIFF of {max(depths)}-bit {number}")
    if len(depths) > 1 or not depths <= DEPTHS:
        raise unsupported(f"a TIFF of {_described(directory)}")
    in_planes = directory.number("planar") == IN_PLANES
    if in_planes and directory.number("samples") == 2 and directory.alpha:  # libtiff gives the grey plane twice
        raise unsupported("a TIFF of grey and alpha in planes")
    if meaning == YCBCR and packing == UNPACKED and (in_planes or directory.subsampling != (1, 1)):
        raise unsupported("a TIFF of unpacked YCbCr with reduced chroma")


def _described(directory: Directory) -> str:
    depth = "/".join(str(bits) for bits in sorted(directory.depths))
    meaning = MEANINGS.get(directory.number("photometric"), "YCbCr")
    order = "big-endian" if directory.big_endian else "little-endian"
    layout = ", in planes" if directory.number("planar") == IN_PLANES else ""
    return f"{depth}-bit {meaning}, {directory.number('samples')} samples a pixel{layout}, {order}"
