"""PNG: checksums, the significant bits that a file names, and exact 16-bit colour."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.config import FULL_16_BIT
from pipeline.decode.faults import Undecodable, unsupported

DEPTH_AT = 24  # offset of the bits per sample
SIGNIFICANT_BITS, TRANSPARENT = b"sBIT", b"tRNS"
HIGH, LOW = "RGB;16B", "RGB;16L"  # tell Pillow which of two bytes to keep


class Chunk(NamedTuple):
    kind: bytes
    body: memoryview


def check(encoded: bytes) -> None:
    """Checks the checksums of the chunks that pixels depend on; Pillow skips those of the pixel data. Raises Undecodable."""
    start = 8
    while start < len(encoded):
        length, kind = int.from_bytes(encoded[start : start + 4], "big"), encoded[start + 4 : start + 8]
        end = start + 8 + length
        if end + 4 > len(encoded):
            raise Undecodable("truncated", "the PNG is damaged: it ends within a chunk")
        needed = kind[:1].isupper() or kind in (TRANSPARENT, SIGNIFICANT_BITS)
        if needed and zlib.crc32(memoryview(encoded)[start + 4 : end]) != int.from_bytes(encoded[end : end + 4], "big"):
            raise Undecodable("corrupt", f"the PNG is damaged: the checksum of its {kind.decode('latin-1')} chunk is wrong")
        if kind == b"CgBI":
            raise unsupported("a PNG of Apple's own kind (CgBI)")
        if kind == b"IEND":
            return
        start = end + 4


def white(levels: np.ndarray, encoded: bytes, white_level: int) -> int:
    """The 16-bit sample that is white. A PNG's samples fill the 16 bits by definition, and then `sBIT` only says how many
    were measured; but some writers leave that many bits at the bottom, which their low bits give away.

    Args:
        levels: the samples, uint16.
        white_level: the white of a file without `sBIT`.
    """
    bits = significant_bits(encoded)
    if bits is None:
        return white_level
    top = (1 << bits) - 1
    below = (1 << (16 - bits)) - 1  # where samples fill the 16 bits, these repeat the high bits or are 0
    in_low_bits = levels.max(initial=0) <= top and bool((levels & below).any())
    return min(top, white_level) if in_low_bits else FULL_16_BIT


def significant_bits(encoded: bytes) -> int | None:
    """The most bits that `sBIT` names for a 16-bit channel; None without it, and where all bits are significant."""
    named = [max(chunk.body[:3]) for chunk in _chunks(encoded) if chunk.kind == SIGNIFICANT_BITS and len(chunk.body)]
    return named[0] if named and 0 < named[0] < 16 else None


def colour_16bit(encoded: bytes) -> np.ndarray:
    """(H, W, 3) uint16 of a 16-bit RGB PNG: Pillow gives the high bytes or, told that bytes are swapped, the low ones."""
    high, low = (_bytes_of(encoded, order).astype(np.uint16) for order in (HIGH, LOW))
    return high << 8 | low


def _bytes_of(encoded: bytes, order: str) -> np.ndarray:
    image = Image.open(BytesIO(encoded), formats=["PNG"])
    image.tile = [tile._replace(args=order) for tile in image.tile]
    return np.asarray(image)


def _chunks(encoded: bytes) -> Iterator[Chunk]:
    """The chunks before the pixels."""
    start = 8
    while start + 12 <= len(encoded):
        length, kind = int.from_bytes(encoded[start : start + 4], "big"), encoded[start + 4 : start + 8]
        if kind == b"IDAT":
            return
        yield Chunk(kind, memoryview(encoded)[start + 8 : start + 8 + length])
        start += length + 12
