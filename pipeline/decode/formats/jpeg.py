"""JPEG: which kinds are read, and decoding that refuses what libjpeg warns of."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.decode.faults import damaged, unsupported

LEAST_REDUCTION = 2  # while a JPEG is decoded: 5/8 to 7/8 take longer than the full size, and blur
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers that start a frame; 0xF7 is JPEG-LS
JPEG_LS, HIERARCHICAL = 0xF7, 0xDE
LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}  # libjpeg-turbo decodes one of them, and crashes when it reduces it
DIFFERENTIAL = {0xC5, 0xC6, 0xCD, 0xCE}
BASELINE, EXIF_OR_XMP, ADOBE = 0xC0, 0xE1, 0xEE
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
AFTER_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # not a stuffed zero, not a restart
LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MOST_PADDING = 16  # bytes: some cameras leave 8 to 11 of them before the end marker
PADDING = b"\0\xff"
NO_DAMAGE = ("Could not determine subsampling", "Unsupported color conversion")  # libjpeg-turbo's words for what libtiff reads


class Segment(NamedTuple):
    """marker: its second byte.  start: offset of the marker or the fill bytes before it.  body: offset behind its length.
    end: offset behind it; of a scan, behind its header.
    """

    marker: int
    start: int
    body: int
    end: int


def check_kind(encoded: bytes) -> None:
    """Raises Undecodable (unsupported_format) for a JPEG of a kind that is not read; passes a JPEG that it cannot parse."""
    for segment in segments(encoded):
        if segment.marker == HIERARCHICAL or segment.marker in DIFFERENTIAL:
            raise unsupported("a hierarchical JPEG")
        if segment.marker in FRAMES and segment.body + 5 < len(encoded):
            depth, components = encoded[segment.body], encoded[segment.body + 5]
            if segment.marker == JPEG_LS:
                raise unsupported("JPEG-LS")
            if segment.marker in LOSSLESS:
                raise unsupported(f"a lossless JPEG of {depth} bits")
            if depth != 8:
                raise unsupported(f"a {depth}-bit JPEG")
            if components not in (1, 3, 4):
                raise unsupported(f"a JPEG of {components} components")
            return


def load(encoded: bytes, mode: str, min_size: tuple[int, int]) -> np.ndarray | None:
    """(H, W) of mode L, (H, W, 3) of RGB, uint8, by libjpeg-turbo in strict mode: Pillow ignores what libjpeg warns of.
    None leaves it to Pillow: for CMYK and for a few bytes of padding before the end marker.

    Damage that leaves the codes valid cannot be noticed: a JPEG has no checksum.

    Raises:
        Undecodable: truncated, corrupt, too_much_memory.
    """
    if mode == "CMYK":  # strict mode checks it at an eighth of its size
        _strict(encoded, "CMYK", (1, 1))
        return None
    pixels = _strict(encoded, "GRAY" if mode == "L" else "RGB", min_size)
    return pixels if pixels is None or mode != "L" else pixels.squeeze(2)


def check_stream(encoded: bytes) -> None:
    """Raises Undecodable for a JPEG stream within another file when its kind is not read or libjpeg warns of it."""
    check_kind(encoded)
    try:
        _decoded(encoded, "GRAY", (1, 1))
    except ValueError as error:
        if not any(words in str(error) for words in NO_DAMAGE) and not _only_padding(encoded, str(error)):
            raise damaged("JPEG", error) from error


def _strict(encoded: bytes, colorspace: str, min_size: tuple[int, int]) -> np.ndarray | None:
    try:
        return _decoded(encoded, colorspace, min_size)
    except ValueError as error:
        if _only_padding(encoded, str(error)):
            return None
        raise damaged("JPEG", error) from error


def _decoded(encoded: bytes, colorspace: str, min_size: tuple[int, int]) -> np.ndarray:
    width, height = min_size
    return simplejpeg.decode_jpeg(encoded, colorspace, min_height=height, min_width=width, min_factor=LEAST_REDUCTION)


def _only_padding(encoded: bytes, warning: str) -> bool:
    """Whether libjpeg warns only of a few bytes of padding before the end: any other bytes were meant to be pixels."""
    found = LEFT_OVER.search(warning)
    if found is None or int(found[1]) > MOST_PADDING:
        return False
    end = next((segment.start for segment in segments(encoded) if segment.marker == END_OF_IMAGE), 0)
    return end > 0 and not encoded[end - int(found[1]) : end].strip(PADDING)


def segments(encoded: bytes) -> Iterator[Segment]:
    """The segments of the first picture, up to its end or to bytes that are not a segment."""
    at = 2
    while at + 2 <= len(encoded) and encoded[at] == 0xFF:
        start = at
        while at < len(encoded) and encoded[at] == 0xFF:  # fill bytes
            at += 1
        marker = encoded[at] if at < len(encoded) else END_OF_IMAGE
        at += 1
        if marker in WITHOUT_LENGTH:
            continue
        yield Segment(marker, start, at + 2, at + int.from_bytes(encoded[at : at + 2], "big"))
        if marker == END_OF_IMAGE:
            return
        at += int.from_bytes(encoded[at : at + 2], "big")
        if marker == START_OF_SCAN:
            following = AFTER_SCAN.search(encoded, at)
            if following is None:
                return
            at = following.start()
