"""BMP of every depth and header."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from format_cases.case import HEIGHT, WIDTH, Case, over_black, samples, shown
from format_cases.png_cases import png
from format_cases.tiff_file import packed_bits
from PIL import Image

MASKS_888 = (0xFF0000, 0xFF00, 0xFF)
HEADERS = {"OS/2": 12, "Windows 3": 40, "V2": 52, "V3": 56, "V4": 108, "V5": 124}


def bmp(
    rows: bytes,
    bits: int,
    header: int = 40,
    masks: tuple[int, ...] = (),
    compression: int | None = None,
    palette: bytes = b"",
    height: int = HEIGHT,
) -> bytes:
    """rows: the last one first, every one filled up to 4 bytes; in their order where `height` is negative."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        packing = compression if compression is not None else (3 if masks else 0)
        head = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, packing, len(rows), 2835, 2835, 0, 0)
        head += struct.pack(f"<{len(masks)}I", *masks)
        if header >= 108:
            head = head.ljust(56, b"\0") + b"BGRs"
        head = head.ljust(header, b"\0")  # masks stand behind a header of 40 bytes
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows


def bottom_up(values: np.ndarray) -> bytes:
    """(H, W, channels) uint8 or (H, W) uint16, uint32: rows from the last to the first, filled up to 4 bytes."""
    return b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in values[::-1])


def cases() -> Iterator[Case]:
    colour, four, grey = samples(3, 8), samples(4, 8), samples(1, 8)
    bgr, bgra = np.ascontiguousarray(colour[..., ::-1]), np.ascontiguousarray(four[..., [2, 1, 0, 3]])
    unused = bgra.copy()
    unused[..., 3] = 0
    shades = bytes(level for i in range(256) for level in (i, i, i, 0))
    for name, header in HEADERS.items():
        palette = bytes(level for i in range(256) for level in (i, i, i)) if header == 12 else shades
        yield Case("BMP", "8-bit palette", name, "none", bmp(bottom_up(grey), 8, header, palette=palette), shown(grey, 8))
        yield Case("BMP", "24-bit RGB", name, "none", bmp(bottom_up(bgr), 24, header), colour)
        if header == 12:
            continue
        yield Case(
            "BMP", "24-bit RGB, first row first", name, "none", bmp(bottom_up(bgr[::-1]), 24, header, height=-HEIGHT), colour
        )
        yield Case("BMP", "32-bit RGB", name, "none", bmp(bottom_up(bgra), 32, header), four[..., :3])
        yield Case("BMP", "32-bit RGB, unused byte 0", name, "none", bmp(bottom_up(unused), 32, header), four[..., :3])
        yield Case("BMP", "32-bit RGB by bit fields", name, "none", bmp(bottom_up(bgra), 32, header, MASKS_888), four[..., :3])
        for mask, rows, kind in ((0xFF000000, bgra, "alpha"), (0xFF000000, unused, "alpha all 0")):
            blended = over_black(four[..., :3], four[..., 3], 8) if kind == "alpha" else four[..., :3]
            if header >= 56:
                yield Case(
                    "BMP",
                    f"32-bit RGBA by bit fields, {kind}",
                    name,
                    "none",
                    bmp(bottom_up(rows), 32, header, (*MASKS_888, mask)),
                    blended,
                    1,
                )
                swapped = np.ascontiguousarray(rows[..., [2, 1, 0, 3]])
                yield Case(
                    "BMP",
                    f"32-bit ABGR by bit fields, {kind}",
                    name,
                    "none",
                    bmp(bottom_up(swapped), 32, header, (0xFF, 0xFF00, 0xFF0000, mask)),
                    blended,
                    1,
                )
                first = np.ascontiguousarray(rows[..., [3, 0, 1, 2]])
                yield Case(
                    "BMP",
                    f"32-bit BGRA, alpha first, {kind}",
                    name,
                    "none",
                    bmp(bottom_up(first), 32, header, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
                    blended,
                    1,
                )
        for masks in ((0xFF000000, 0xFF0000, 0xFF00), (0xFF000000, 0xFF00, 0xFF)):
            places = [(24, 16, 8) if masks[1] == 0xFF0000 else (24, 8, 0)][0]
            word = sum(four[..., i].astype(np.uint32) << shift for i, shift in enumerate(places))
            kind = f"32-bit RGB by bit fields at {places}"
            yield Case("BMP", kind, name, "none", bmp(bottom_up(word), 32, header, masks), four[..., :3])
            if header >= 56 and places == (24, 8, 0):
                alpha = word | four[..., 3].astype(np.uint32) << 16
                yield Case(
                    "BMP",
                    f"{kind}, alpha",
                    name,
                    "none",
                    bmp(bottom_up(alpha), 32, header, (*masks, 0xFF0000)),
                    over_black(four[..., :3], four[..., 3], 8),
                    1,
                )
        five = samples(3, 5).astype(np.uint16)
        wide = np.rint(five * (255 / 31)).astype(np.uint8)
        word = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]
        yield Case("BMP", "16-bit 5-5-5", name, "none", bmp(bottom_up(word), 16, header), wide, 1)
        yield Case(
            "BMP", "16-bit 5-5-5 by bit fields", name, "none", bmp(bottom_up(word), 16, header, (0x7C00, 0x3E0, 0x1F)), wide, 1
        )
        six = samples(1, 6)[..., 0].astype(np.uint16)
        word = five[..., 0] << 11 | six << 5 | five[..., 2]
        green = wide.copy()
        green[..., 1] = np.rint(six * (255 / 63))
        yield Case(
            "BMP", "16-bit 5-6-5 by bit fields", name, "none", bmp(bottom_up(word), 16, header, (0xF800, 0x7E0, 0x1F)), green, 1
        )
        if header >= 56:
            for kind, bit in (("alpha 1", 0x8000), ("alpha all 0", 0)):
                word = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2] | bit
                yield Case(
                    "BMP",
                    f"16-bit 1-5-5-5 by bit fields, {kind}",
                    name,
                    "none",
                    bmp(bottom_up(word.astype(np.uint16)), 16, header, (0x7C00, 0x3E0, 0x1F, 0x8000)),
                    wide,
                    1,
                )
        ten = samples(3, 10).astype(np.uint32)
        word = ten[..., 0] << 20 | ten[..., 1] << 10 | ten[..., 2]
        yield Case(
            "BMP",
            "32-bit 10-10-10 by bit fields",
            name,
            "none",
            bmp(bottom_up(word), 32, header, (0x3FF00000, 0xFFC00, 0x3FF)),
            None,
            refused="bit fields",
        )
    for bits in (1, 4):
        index = samples(1, bits)
        table = bytes(level for i in range(1 << bits) for level in (i * 10, i * 5, i * 3, 0))
        pixels = np.stack([index[..., 0] * 3, index[..., 0] * 5, index[..., 0] * 10], -1).astype(np.uint8)
        rows = [packed_bits(row[None, :, 0], bits) for row in index]
        content = bmp(b"".join(row + bytes(-len(row) % 4) for row in rows[::-1]), bits, palette=table.ljust(4 << bits, b"\0"))
        yield Case("BMP", f"{bits}-bit palette", "Windows 3", "none", content, pixels)
    runs = b"".join(bytes([24, row, 24, 255 - row, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    levels = np.stack([np.where(np.arange(WIDTH) < 24, row, 255 - row) for row in range(HEIGHT)])[::-1]
    yield Case(
        "BMP",
        "8-bit palette",
        "Windows 3",
        "RLE",
        bmp(runs, 8, compression=1, palette=shades),
        shown(levels[..., None].astype(np.uint8), 8),
    )
    sink = io.BytesIO()
    Image.fromarray(colour).save(sink, "JPEG")
    yield Case("BMP", "JPEG inside", "Windows 3", "JPEG", bmp(sink.getvalue(), 0, compression=4), None, refused="JPEG")
    yield Case("BMP", "PNG inside", "Windows 3", "PNG", bmp(png(samples(3, 8), 8, 2), 0, compression=5), None, refused="PNG")
    yield Case(
        "BMP",
        "8-bit palette",
        "OS/2 array",
        "",
        b"BA" + bytes(12) + bmp(bottom_up(grey), 8, palette=shades),
        None,
        refused="bitmap array",
    )
