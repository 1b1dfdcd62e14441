"""Sorts a unit's images for a run that decodes JPEGs on the GPU: which go there as bytes, and which the CPU decodes as ever.

The device takes upright baseline JPEGs, grey or YCbCr of 8 bits. The sealed child (pipeline/decode/child.py) decodes each of
them once at an eighth of its size, in strict mode: nvJPEG draws damaged data without a word, and must meet no bytes that
nobody has tried. That takes a core two fifths of the time of the CPU's whole decoder, and gives its error rows.
"""

import struct
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decode.config import DecodeConfig
from pipeline.decode.formats import jpeg
from pipeline.decode.process import DECODE, decode_in_child
from pipeline.decode.unit import SCHEMA

ORIENTATION, SHORT = 0x0112, 3
EXIF = b"Exif\0\0"


class Sorted(NamedTuple):
    """table: N rows of `pipeline.decode.unit.SCHEMA` and `encoded`: the bytes of an image that the device decodes, else null.
    Its brightness, contrast and sharpness are not known yet.  pixels: (M, H, W, 3) uint8, of those that the CPU has decoded.
    """

    table: pa.Table
    pixels: np.ndarray


def sorted_for_device(table: pa.Table, config: DecodeConfig, timeout_s: float, decode: str = DECODE) -> Sorted:
    """Rows of schemas/encoded.py. `decode` is for tests. Raises DecoderUnavailable."""
    takes = [cell.is_valid and may_take(cell.as_py()) for cell in table["encoded"]]
    chosen, none = pa.array(takes, pa.bool_()), pa.scalar(None, table.schema.field("encoded").type)
    column = table.schema.get_field_index("encoded")
    theirs = table.set_column(column, table.schema.field("encoded"), pc.if_else(chosen, table["encoded"], none))
    ours = table.set_column(column, table.schema.field("encoded"), pc.if_else(chosen, none, table["encoded"]))
    tried = decode_in_child(theirs, config.model_copy(update={"height": 1, "width": 1, "resize": "squash"}), timeout_s, decode)
    done = decode_in_child(ours, config, timeout_s, decode)
    columns = [pc.if_else(chosen, tried.table[name], done.table[name]) for name in SCHEMA.names]
    found = pa.Table.from_arrays(columns, schema=SCHEMA)
    readable = pc.and_(chosen, pc.is_null(found["error"]))
    pixels = done.pixels[[not taken and error is None for taken, error in zip(takes, found["error"].to_pylist(), strict=True)]]
    encoded = pc.if_else(readable, table["encoded"], none)
    return Sorted(found.append_column(table.schema.field("encoded"), encoded), pixels)


def may_take(encoded: bytes) -> bool:
    """Whether it looks like an upright baseline JPEG of 8 bits, grey or YCbCr. Looks at headers only."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return False
    frames: list[bool] = []
    for segment in jpeg.segments(encoded):  # up to the first scan: what turns an image may stand behind the frame's header
        body = encoded[segment.body : segment.end]
        if segment.marker == jpeg.EXIF_OR_XMP and not _upright(body):
            return False
        if segment.marker == jpeg.ADOBE and body.startswith(b"Adobe") and body[11:12] == b"\0":  # stored as RGB
            return False
        if segment.marker in jpeg.FRAMES:
            frames.append(segment.marker == jpeg.BASELINE and len(body) > 5 and body[0] == 8 and body[5] in (1, 3))
        if segment.marker == jpeg.START_OF_SCAN:
            return frames == [True]
    return False


def _upright(body: bytes) -> bool:
    """Whether EXIF or XMP certainly does not turn the image."""
    if not body.startswith(EXIF):
        return b"Orientation" not in body  # Pillow reads it in XMP too
    order = {b"II": "<", b"MM": ">"}.get(body[6:8])
    try:
        if order is None:
            return False
        (directory,) = struct.unpack_from(order + "I", body, 10)
        (count,) = struct.unpack_from(order + "H", body, 6 + directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", body, 8 + directory + 12 * entry)
            if tag == ORIENTATION:
                return kind == SHORT and value == 1
    except struct.error:
        return False
    return True
