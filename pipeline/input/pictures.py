"""Tells pictures by name or first bytes, whether or not the decoder reads their kind."""

import re

FIRST_BYTES = 512
"""Number of bytes of a file that decide."""

SUFFIXES = frozenset(
    (
        "jpg jpeg jpe jfif jif png apng bmp dib rle tif tiff btf gif webp jp2 j2k jpf jpx jpm j2c jpc jls jxl jxr wdp "
        "avif heic heif hif dng nef nrw cr2 cr3 crw arw srf sr2 orf rw2 raf pef srw raw 3fr iiq "
        "ppm pgm pbm pnm pam pfm exr hdr tga ico svg eps psd dds pcx sgi dcm dicom qoi mng"
    ).split()
)
BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x8aMNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"8BPS", b"v/1\x01", b"#?RADIANCE", b"qoif"),
    *(b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"MMOR", b"II\xbc", b"DDS "),
)
OTHER = re.compile(
    rb"RIFF....WEBP|BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0|P[1-7]\s+[\d#W]"
    rb"|....ftyp(?:avi[fs]|he[ivm][cxfs]|mif1|msf1|crx )|.{128}DICM|\s*(?:<\?xml[^>]*>\s*)?<svg",
    re.DOTALL,
)


def named_as_picture(name: str) -> bool:
    """Whether the name's last suffix is that of a picture, in any case."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(dot) and suffix.lower() in SUFFIXES


def is_picture(name: str, encoded: bytes | None) -> bool:
    """Whether a file is a picture by its name or known bytes; an unread file may be one."""
    return named_as_picture(name) or encoded is None or begins_as_picture(encoded[:FIRST_BYTES])


def begins_as_picture(first: bytes) -> bool:
    """Whether these are the first bytes of a picture; give FIRST_BYTES of them, or all."""
    return first.startswith(BEGINNINGS) or OTHER.match(first) is not None
