"""BMP: which kinds are read."""

import struct
from io import BytesIO

from PIL import Image

from pipeline.decode.faults import unsupported

SMALLEST_HEADER, MASKS_END = 40, 66  # bytes: of the second header, and of the file up to the end of its masks
DEPTHS = {0, 1, 2, 4, 8, 16, 24, 32, 64}  # another one is damage
BIT_FIELDS = 3
NOT_READ = {4: "a JPEG inside", 5: "a PNG inside", 6: "alpha bit fields", 11: "CMYK", 12: "CMYK", 13: "CMYK"}  # by compression
LAYOUT = "Unsupported BMP bitfields layout"  # Pillow's words


def opened(encoded: bytes) -> Image.Image:
    """Pillow's image, not loaded. Raises Undecodable for kinds that are not read, and what Pillow raises."""
    header = int.from_bytes(encoded[14:18], "little")
    if header >= SMALLEST_HEADER and len(encoded) >= MASKS_END:
        depth, compression = struct.unpack_from("<HI", encoded, 28)
        _check_kind(depth, compression, struct.unpack_from("<3I", encoded, 54))
    try:
        return Image.open(BytesIO(encoded), formats=["BMP"])
    except OSError as error:
        if LAYOUT in str(error):
            raise unsupported("a BMP with unusual bit fields") from error
        raise


def _check_kind(depth: int, compression: int, masks: tuple[int, ...]) -> None:
    if depth not in DEPTHS:
        return
    if compression in NOT_READ:
        raise unsupported(f"a BMP with {NOT_READ[compression]}")
    if depth in (2, 64):
        raise unsupported(f"a BMP of {depth} bits a pixel")
    if compression == BIT_FIELDS and not any(masks):
        raise unsupported("a BMP with empty bit fields")
