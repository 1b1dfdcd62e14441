"""TIFF files put together by hand: what no library writes, or not in this combination."""

import struct
from typing import NamedTuple

import numpy as np

SHORT, LONG = 3, 4


class Directory(NamedTuple):
    """tags: numbers by tag, without those of the strips.  strips: their bytes.  inner: its SubIFDs."""

    tags: dict[int, tuple[int, ...]]
    strips: tuple[bytes, ...]
    inner: tuple["Directory", ...] = ()


def tags_of(
    width: int, height: int, bits: tuple[int, ...], photometric: int, **more: int | tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """more: further tags by their number prefixed by _."""
    found = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 277: (len(bits),), 278: (height,)}
    return found | {int(tag[1:]): values if isinstance(values, tuple) else (values,) for tag, values in more.items()}


def assembled(*directories: Directory, order: str = "<") -> bytes:
    """A TIFF whose directories follow each other in a chain."""
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for directory in directories:
        at, next_link = _append(content, directory, order)
        content[link : link + 4] = struct.pack(order + "I", at)
        link = next_link
    return bytes(content)


def _append(content: bytearray, directory: Directory, order: str) -> tuple[int, int]:
    inner = tuple(_append(content, one, order)[0] for one in directory.inner)
    starts = []
    for strip in directory.strips:
        starts.append(len(content))
        content += strip + bytes(len(strip) % 2)
    tags = dict(directory.tags) | {273: tuple(starts), 279: tuple(map(len, directory.strips))}
    tags |= {330: inner} if inner else {}
    entries = b""
    for tag, values in sorted(tags.items()):
        kind, letter = (LONG, "I") if tag in (273, 279, 330) or max(values) > 65535 else (SHORT, "H")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            place = len(content)
            content += packed + bytes(len(packed) % 2)
            packed = struct.pack(order + "I", place)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    at = len(content)
    content += struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return at, len(content) - 4


def packed_bits(values: np.ndarray, bits: int) -> bytes:
    """(H, W) samples of `bits` bits, most significant first, every row filled up to a byte."""
    shifts = np.arange(bits - 1, -1, -1)
    planes = ((values[..., None].astype(np.int64) >> shifts) & 1).astype(np.uint8)  # (H, W, bits)
    return np.packbits(planes.reshape(len(values), -1), axis=1).tobytes()
