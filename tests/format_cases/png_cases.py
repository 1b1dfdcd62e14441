"""PNG of every colour type and depth, interlaced or not, with and without transparency and significant bits."""

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from format_cases.case import Case, over_black, samples, shown
from format_cases.tiff_file import packed_bits

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, depth: int, colour: int, *between: bytes, interlaced: bool = False) -> bytes:
    """values: (H, W, channels).  between: chunks that stand before the pixels."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    if interlaced:
        rows = b"".join(_rows(values[top::down, left::across], depth) for top, left, down, across in ADAM7)
    else:
        rows = _rows(values, depth)
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _rows(values: np.ndarray, depth: int) -> bytes:
    if not values.size:
        return b""
    if depth == 16:
        packed = [row.astype(">u2").tobytes() for row in values]
    elif depth == 8:
        packed = [row.tobytes() for row in values]
    else:
        packed = [packed_bits(row[None, :, 0], depth) for row in values]
    return b"".join(b"\0" + row for row in packed)


def cases() -> Iterator[Case]:
    for interlaced in (False, True):
        layout = "interlaced" if interlaced else "rows"
        for kind, depth, colour, values, between, pixels in _pictures():
            yield Case(
                "PNG",
                kind,
                layout,
                "deflate",
                png(values, depth, colour, *between, interlaced=interlaced),
                pixels,
                int("alpha" in kind),
            )


def _pictures() -> Iterator[tuple[str, int, int, np.ndarray, tuple[bytes, ...], np.ndarray]]:
    for depth in (1, 2, 4, 8, 16):
        grey = samples(1, depth)
        yield f"{depth}-bit grey", depth, GREY, grey, (), shown(grey, depth)
        clear = int(grey[3, 4, 0])
        pixels = np.where(grey == clear, 0, shown(grey, depth)).astype(np.uint8)
        yield f"{depth}-bit grey, one level transparent", depth, GREY, grey, (chunk(b"tRNS", struct.pack(">H", clear)),), pixels
    for depth in (8, 16):
        colour, four, pair = (samples(channels, depth) for channels in (3, 4, 2))
        colour[5:9, 5:9] = colour[0, 0]
        yield f"{depth}-bit RGB", depth, COLOUR, colour, (), shown(colour, depth)
        clear = (colour == colour[0, 0]).all(-1, keepdims=True)
        near = colour[0, 0].astype(np.int64) ^ 1
        colour[20:22, 20:22] = near  # the same high byte, another colour
        transparent = chunk(b"tRNS", struct.pack(">3H", *map(int, colour[0, 0])))
        pixels = np.where(clear, 0, shown(colour, depth)).astype(np.uint8)
        yield f"{depth}-bit RGB, one colour transparent", depth, COLOUR, colour, (transparent,), pixels
        yield (
            f"{depth}-bit RGB and alpha",
            depth,
            COLOUR_ALPHA,
            four,
            (),
            over_black(shown(four[..., :3], depth), four[..., 3], depth),
        )
        yield (
            f"{depth}-bit grey and alpha",
            depth,
            GREY_ALPHA,
            pair,
            (),
            over_black(shown(pair[..., :1] >> (depth - 8), 8), pair[..., 1], depth),
        )
    for depth in (1, 2, 4, 8):
        index = samples(1, depth)
        palette = np.random.default_rng(depth).integers(1, 256, (1 << depth, 3), dtype=np.uint8)
        chunks = (chunk(b"PLTE", palette.tobytes()),)
        yield f"{depth}-bit palette", depth, PALETTE, index, chunks, palette[index[..., 0]]
        alpha = np.random.default_rng(depth).integers(0, 256, 1 << depth, dtype=np.uint8)
        chunks += (chunk(b"tRNS", alpha.tobytes()),)
        pixels = over_black(palette[index[..., 0]], alpha[index[..., 0]], 8)
        yield f"{depth}-bit palette and alpha", depth, PALETTE, index, chunks, pixels
    twelve = samples(1, 12)
    bits = chunk(b"sBIT", b"\x0c")
    yield "16-bit grey, 12 significant", 16, GREY, twelve << 4 | twelve >> 8, (bits,), shown(twelve << 4 | twelve >> 8, 16)
    yield "16-bit grey, 12 significant, shifted", 16, GREY, twelve << 4, (bits,), shown(twelve << 4, 16)
    yield "16-bit grey, 12 significant, in the low bits", 16, GREY, twelve, (bits,), shown(twelve, 12)
    ten = samples(1, 10)
    yield "16-bit grey, 10 significant, in the low bits", 16, GREY, ten, (chunk(b"sBIT", b"\x0a"),), shown(ten, 10)
    full = samples(1, 16)
    yield "16-bit grey, 12 said significant, 16 used", 16, GREY, full, (bits,), shown(full, 16)
    dark = twelve << 4 & 0xFFF
    yield "16-bit grey, 12 significant, dark", 16, GREY, dark, (bits,), shown(dark, 16)
    low = samples(3, 12)
    bits = chunk(b"sBIT", b"\x0c\x0c\x0c")
    yield "16-bit RGB, 12 significant", 16, COLOUR, low << 4 | low >> 8, (bits,), shown(low << 4 | low >> 8, 16)
    pixels = ((low.astype(np.int64) * 255 + 2047) // 4095).astype(np.uint8)
    yield "16-bit RGB, 12 significant, in the low bits", 16, COLOUR, low, (bits,), pixels


def refused() -> Iterator[Case]:
    """What is no picture, or more than one."""
    picture = samples(4, 8)
    unseen = "transparent"
    for depth in (8, 16):
        for channels, colour in ((2, GREY_ALPHA), (4, COLOUR_ALPHA)):
            values = samples(channels, depth)
            values[..., -1] = 0
            kind = f"{depth}-bit {'grey' if channels == 2 else 'RGB'} and alpha, alpha all 0"
            yield Case("PNG", kind, "rows", "deflate", png(values, depth, colour), None, 0, unseen, "wholly_transparent")
        for channels, colour in ((1, GREY), (3, COLOUR)):
            values = np.full((8, 8, channels), 200, samples(1, depth).dtype)
            clear = chunk(b"tRNS", struct.pack(f">{channels}H", *[200] * channels))
            kind = f"{depth}-bit {'grey' if channels == 1 else 'RGB'}, its only colour transparent"
            yield Case("PNG", kind, "rows", "deflate", png(values, depth, colour, clear), None, 0, unseen, "wholly_transparent")
    palette = (chunk(b"PLTE", bytes(range(12))), chunk(b"tRNS", bytes(4)))
    content = png(samples(1, 2), 2, PALETTE, *palette)
    yield Case("PNG", "2-bit palette, all transparent", "rows", "deflate", content, None, 0, unseen, "wholly_transparent")
    apple = png(picture, 8, COLOUR_ALPHA)
    apple = SIGNATURE + chunk(b"CgBI", b"\x50\x00\x20\x02") + apple[8:]
    yield Case("PNG", "Apple's own (CgBI)", "rows", "deflate", apple, None, 0, "CgBI")
    moving = imagecodecs.apng_encode(np.stack([picture[..., :3], picture[::-1, :, :3]]))
    yield Case("PNG", "animated (APNG)", "rows", "deflate", moving, None, 0, "2 images", "several_images")
