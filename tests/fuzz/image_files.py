"""Small valid files of every format and mode that the decoder takes, and the offsets of their structure."""

import io
import re
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

EXIF_IFD, ORIENTATION, TIME, SUBSECOND, OFFSET = 0x8769, 0x0112, 0x9003, 0x9291, 0x9011
PNG_START = b"\x89PNG\r\n\x1a\n"


def picture(mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((41, 30), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) * 257)
    return smooth.convert(mode)


def encoded(mode: str, form: str, **options: object) -> bytes:
    sink = io.BytesIO()
    picture(mode).save(sink, form, **options)
    return sink.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION], tags[0x010F] = 6, "camera"
    tags.get_ifd(EXIF_IFD).update({TIME: "2026:07:01 12:00:00", SUBSECOND: "25", OFFSET: "+02:00"})
    return tags


def jpegs() -> list[bytes]:
    plain = [encoded(mode, "JPEG", quality=80) for mode in ("L", "RGB", "CMYK")]
    special = [
        encoded("RGB", "JPEG", progressive=True, subsampling=0),
        encoded("RGB", "JPEG", restart_marker_blocks=2),
        encoded("RGB", "JPEG", icc_profile=b"profile" * 30, comment=b"made up"),
        encoded("RGB", "MPO", save_all=True, append_images=[picture().rotate(9)]),
    ]
    return [*plain, *special, *exif_jpegs()]


def exif_jpegs() -> list[bytes]:
    return [encoded(mode, "JPEG", exif=exif()) for mode in ("L", "RGB")]


def pngs() -> list[bytes]:
    modes = [encoded(mode, "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")]
    return [*modes, encoded("P", "PNG", transparency=3), encoded("RGB", "PNG", exif=exif(), dpi=(72, 72)), interlaced()]


def interlaced() -> bytes:
    """3 x 3 grey pixels in Adam7 order, which Pillow reads but does not write."""
    lines = b"\0\x10\0\x20\0\x30\x40\0\x50\0\x60\0\x70\x80\x90"
    header = b"\0\0\0\3\0\0\0\3\x08\0\0\0\1"
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return PNG_START + b"".join(png_chunk(kind, body) for kind, body in chunks)


def bmps() -> list[bytes]:
    return [encoded(mode, "BMP") for mode in ("1", "L", "P", "RGB")]


def tiffs() -> list[bytes]:
    modes = [encoded(mode, "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F")]
    kinds = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_deflate")
    packed = [encoded("RGB", "TIFF", compression=kind) for kind in kinds]
    bits = [encoded("1", "TIFF", compression=kind) for kind in ("group3", "group4", "tiff_ccitt")]
    return [*modes, *packed, *bits, encoded("RGB", "TIFF", big_tiff=True), encoded("L", "TIFF", tiffinfo={ORIENTATION: 5})]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_offsets(content: bytes) -> list[int]:
    """The offsets at which chunks begin, as far as their lengths lead."""
    starts, start = [], len(PNG_START)
    while start + 12 <= len(content):
        starts.append(start)
        start += 12 + int.from_bytes(content[start : start + 4], "big")
    return starts


def with_checksums(content: bytes) -> bytes:
    """The PNG with correct checksums, so that the decoder reaches the damage inside its chunks."""
    mended = bytearray(content)
    for start in png_offsets(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        mended[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4, "big") if end + 4 <= len(content) else b""
    return bytes(mended)


def png_marks(content: bytes) -> list[int]:
    return [mark for start in png_offsets(content) for mark in range(start, start + 22)]


def jpeg_marks(content: bytes) -> list[int]:
    """The offsets of markers, their lengths and first bytes, and of the EXIF that one may hold."""
    found = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", content)]
    tags = [at + offset for at in (content.find(b"Exif\0\0"),) if at >= 0 for offset in range(6, 120)]
    return [mark for start in found for mark in range(start, start + 12)] + tags


def tiff_marks(content: bytes) -> list[int]:
    """The offsets of the header and of the first directory's entries."""
    at = int.from_bytes(content[4:8], "little")
    return [*range(8), *range(at, min(at + 2 + 12 * 20, len(content)))]


FORMATS: list[tuple[list[bytes], Callable[[bytes], list[int]], Callable[[bytes], bytes]]] = [
    (jpegs(), jpeg_marks, bytes),
    (exif_jpegs(), lambda content: list(range(20, 200)), bytes),
    (pngs(), png_marks, bytes),
    (pngs(), png_marks, with_checksums),
    (bmps(), lambda content: list(range(58)), bytes),
    (tiffs(), tiff_marks, bytes),
]
"""Files, the offsets of their structure, and the repair after the damage."""
