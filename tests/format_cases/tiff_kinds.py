"""TIFF of every other kind: depths, palettes, fax, JPEG inside, orientation, number formats, packings, meanings."""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from format_cases.case import HEIGHT, WIDTH, Case, samples, shown
from format_cases.jpeg_cases import TURNED, jpeg
from format_cases.tiff_file import Directory, assembled, packed_bits, tags_of
from PIL import Image

PACKERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (1, bytes),
    "LZW": (5, imagecodecs.lzw_encode),
    "deflate": (8, zlib.compress),
    "PackBits": (32773, imagecodecs.packbits_encode),
}


def tiff(values: np.ndarray, order: str = "<", **options: Any) -> bytes:
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink, byteorder=order) as writer:
        writer.write(np.ascontiguousarray(values), metadata=None, **{"photometric": "minisblack", **options})
    return sink.getvalue()


def by_opencv(content: bytes) -> np.ndarray:
    """(H, W, 3) uint8, read by OpenCV."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def cases() -> Iterator[Case]:
    for part in (_depths, _bilevel, _palettes, _fill_order, _jpeg, _orientations, _numbers, _packings, _meanings):
        yield from part()


def _depths() -> Iterator[Case]:
    for packed, (number, pack) in PACKERS.items():
        for width in (WIDTH, WIDTH - 1):
            grey = samples(1, 12)[:, :width, 0]
            directory = Directory(tags_of(width, HEIGHT, (12,), 1, _259=number), (pack(packed_bits(grey, 12)),))
            yield Case("TIFF", "12-bit grey, packed", "strips", packed, assembled(directory), shown(grey, 12))
            content = assembled(directory, order=">")
            yield Case("TIFF", "12-bit grey, packed", "strips, big-endian", packed, content, None, 0, "12-bit grey")
    for depth in (2, 4):
        for width in (WIDTH, WIDTH - 1):
            grey = samples(1, depth)[:, :width, 0]
            yield Case("TIFF", f"{depth}-bit grey", "strips", "none", tiff(grey, bitspersample=depth), shown(grey, depth))
    for depth in (6, 10, 14):
        content = tiff(samples(1, depth)[..., 0], bitspersample=depth)
        yield Case("TIFF", f"{depth}-bit grey, packed", "strips", "none", content, None, 0, f"{depth}-bit grey")
    content = tiff(samples(3, 12), photometric="rgb", bitspersample=12)
    yield Case("TIFF", "12-bit RGB, packed", "strips", "none", content, None, 0, "12-bit RGB")
    twelve = samples(1, 12)[..., 0]
    for order in "<>":
        kind = "16-bit grey that holds 12 bits, white_level 4095"
        layout = "strips" if order == "<" else "strips, big-endian"
        yield Case("TIFF", kind, layout, "none", tiff(twelve, order), shown(twelve, 12), white_level=4095)


def _bilevel() -> Iterator[Case]:
    bits = samples(1, 1)[..., 0].astype(bool)
    for meaning in ("minisblack", "miniswhite"):
        kind = "1-bit grey" if meaning == "minisblack" else "1-bit grey, white is zero"
        pixels = shown((bits if meaning == "minisblack" else ~bits).astype(np.uint8), 1)
        for packed, name in ((None, "none"), ("packbits", "PackBits"), ("lzw", "LZW"), ("zlib", "deflate")):
            content = tiff(bits, photometric=meaning, compression=packed)
            yield Case("TIFF", kind, "strips", name, content, pixels)
        for packed, name in (("tiff_ccitt", "CCITT RLE"), ("group3", "CCITT Group 3"), ("group4", "CCITT Group 4")):
            for order in (1, 2):
                sink = io.BytesIO()
                tags = {262: int(meaning == "minisblack"), 266: order}
                Image.fromarray(bits).save(sink, "TIFF", compression=packed, tiffinfo=tags)
                yield Case("TIFF", kind, f"strips, fill order {order}", name, sink.getvalue(), by_opencv(sink.getvalue()))


def _palettes() -> Iterator[Case]:
    for depth in (1, 2, 4, 8):
        colours = np.random.default_rng(depth).integers(0, 1 << 16, (3, 1 << depth), dtype=np.uint16)
        index = samples(1, depth)[..., 0]
        pixels = (colours[:, index] >> 8).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
        for packed, (number, pack) in PACKERS.items():
            tags = tags_of(WIDTH, HEIGHT, (depth,), 3, _259=number, _320=tuple(map(int, colours.ravel())))
            content = assembled(Directory(tags, (pack(packed_bits(index, depth)),)))
            yield Case("TIFF", f"{depth}-bit palette", "strips", packed, content, pixels)


def _fill_order() -> Iterator[Case]:
    for depth, channels in ((8, 1), (8, 3), (16, 1), (16, 3)):
        values = samples(channels, depth)
        raw = values.astype("<u2").tobytes() if depth == 16 else values.tobytes()
        tags = tags_of(WIDTH, HEIGHT, (depth,) * channels, 1 if channels == 1 else 2, _266=2)
        turned = np.packbits(np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")).tobytes()
        kind = f"{depth}-bit {'grey' if channels == 1 else 'RGB'}"
        refused = "16-bit RGB" if (depth, channels) == (16, 3) else None
        content = assembled(Directory(tags, (turned,)))
        yield Case("TIFF", kind, "strips, fill order 2", "none", content, shown(values, depth), 0, refused)


def _jpeg() -> Iterator[Case]:
    colour, grey = samples(3, 8, smooth=True), samples(1, 8, smooth=True)[..., 0].copy()
    options: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 98}}
    strip = imagecodecs.jpeg_encode(grey, 98)
    content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8,), 1, _259=7), (strip,)))
    yield Case("TIFF", "8-bit grey", "strips", "JPEG", content, shown(grey, 8), 6)
    planes = tuple(imagecodecs.jpeg_encode(colour[..., i].copy(), 98) for i in range(3))
    content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8, 8, 8), 2, _259=7, _284=2), planes))
    yield Case("TIFF", "8-bit RGB", "planar strips", "JPEG", content, colour, 6)
    for layout, place in (("strips", {"rowsperstrip": 16}), ("tiles", {"tile": (16, 16)})):
        yield Case("TIFF", "8-bit RGB", layout, "JPEG", tiff(colour, photometric="rgb", **options, **place), colour, 6)
        for chroma in ((1, 1), (2, 1), (2, 2)):
            content = tiff(colour, photometric="ycbcr", subsampling=chroma, **options, **place)
            kind = f"8-bit YCbCr, chroma {chroma[0]} by {chroma[1]}"
            yield Case("TIFF", kind, layout, "JPEG", content, by_opencv(content), 1)
    lossless = imagecodecs.ljpeg_encode(grey)
    content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8,), 1, _259=7), (lossless,)))
    yield Case("TIFF", "8-bit grey", "strips", "JPEG, lossless", content, None, 0, "lossless JPEG")
    twelve = imagecodecs.jpeg8_encode(grey.astype(np.uint16) << 4, 95, bitspersample=12)
    content = assembled(Directory(tags_of(WIDTH, HEIGHT, (12,), 1, _259=7), (twelve,)))
    yield Case("TIFF", "12-bit grey", "strips", "JPEG", content, None, 0, "12-bit JPEG")
    whole = jpeg(Image.fromarray(colour))
    tags = tags_of(WIDTH, HEIGHT, (8, 8, 8), 6, _259=6, _512=1, _513=8, _514=len(whole))
    yield Case("TIFF", "8-bit YCbCr", "strips", "old JPEG", assembled(Directory(tags, (whole,))), colour, 12)
    for packed, number in (("none", 1), ("LZW", 5)):
        for chroma in ((1, 1), (2, 2)):
            size = HEIGHT * WIDTH * 3 // (2 if chroma == (2, 2) else 1)
            body = np.random.default_rng(size).integers(60, 190, size, dtype=np.uint8).tobytes()
            tags = tags_of(WIDTH, HEIGHT, (8, 8, 8), 6, _259=number, _530=chroma)
            content = assembled(Directory(tags, (PACKERS[packed][1](body),)))
            refused = "reduced chroma" if packed == "none" and chroma == (2, 2) else None
            pixels = None if refused else by_opencv(content)
            yield Case("TIFF", f"8-bit YCbCr, chroma {chroma[0]} by {chroma[1]}", "strips", packed, content, pixels, 2, refused)


def _orientations() -> Iterator[Case]:
    for turn, apply in TURNED.items():
        for depth in (8, 16):
            for channels in (1, 3):
                values = samples(channels, depth)
                tag = [(274, 3, 1, turn, True)]
                content = tiff(values.squeeze(), photometric="rgb" if channels == 3 else "minisblack", extratags=tag)
                kind = f"{depth}-bit {'grey' if channels == 1 else 'RGB'}"
                pixels = np.ascontiguousarray(apply(shown(values, depth)))
                yield Case("TIFF", kind, f"orientation {turn}", "none", content, pixels)


def _numbers() -> Iterator[Case]:
    for kind, words in (
        *(("float16", "16-bit float"), ("float32", "32-bit float"), ("float64", "64-bit float"), ("complex64", "complex")),
        *(("int8", "8-bit signed"), ("int16", "16-bit signed"), ("int32", "32-bit signed"), ("int64", "64-bit signed")),
        *(("uint32", "32-bit grey"), ("uint64", "64-bit grey")),
    ):
        for order in "<>":
            layout = "strips" if order == "<" else "strips, big-endian"
            content = tiff(samples(1, 8)[..., 0].astype(kind), order)
            yield Case("TIFF", f"{kind} grey", layout, "none", content, None, 0, words)
    for kind, words in (("float16", "16-bit float"), ("float32", "32-bit float"), ("uint32", "32-bit RGB")):
        content = tiff(samples(3, 8).astype(kind), photometric="rgb", compression="zlib")
        yield Case("TIFF", f"{kind} RGB", "strips", "deflate", content, None, 0, words)


def _packings() -> Iterator[Case]:
    for packed, words in (
        *(("lerc", "LERC"), ("jpeg2000", "JPEG 2000"), ("jpegxl", "JPEG XL"), ("png", "PNG"), ("jpegxr", "JPEG XR")),
    ):
        for channels, meaning in ((1, "minisblack"), (3, "rgb")):
            content = tiff(samples(channels, 8).squeeze(), photometric=meaning, compression=packed)
            yield Case("TIFF", f"8-bit {'grey' if channels == 1 else 'RGB'}", "strips", words, content, None, 0, words)
    content = tiff(samples(3, 8), photometric="rgb", compression="webp")
    yield Case("TIFF", "8-bit RGB", "strips", "WebP", content, None, 0, "WebP")
    for number, words in (
        (34661, "JBIG"),
        (9, "JBIG"),
        (32809, "ThunderScan"),
        (34713, "Nikon NEF"),
        (65000, "compression 65000"),
    ):
        content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8,), 1, _259=number), (bytes(100),)))
        yield Case("TIFF", "8-bit grey", "strips", words, content, None, 0, words)


def _meanings() -> Iterator[Case]:
    grey, colour = samples(1, 16)[..., 0], samples(3, 8)
    pattern = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]
    yield Case("TIFF", "16-bit Bayer", "strips", "none", tiff(grey, photometric="cfa", extratags=pattern), None, 0, "Bayer")
    yield Case("TIFF", "linear raw", "strips", "none", tiff(colour, photometric="linear_raw"), None, 0, "linear raw")
    for lab in ("cielab", "icclab", "itulab"):
        yield Case("TIFF", f"8-bit {lab}", "strips", "none", tiff(colour, photometric=lab), None, 0, "Lab")
    content = assembled(Directory({tag: value for tag, value in tags_of(8, 8, (8,), 1).items() if tag != 262}, (bytes(64),)))
    yield Case("TIFF", "8-bit, meaning not said", "strips", "none", content, None, 0, "does not say what its samples mean")
    four = samples(4, 8)
    four[..., 3] = 0
    content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8,) * 4, 2), (four.tobytes(),)))
    yield Case("TIFF", "8-bit RGB and a channel it says nothing of, all 0", "strips", "none", content, four[..., :3])
    for extra, name in ((1, "premultiplied alpha"), (2, "alpha")):
        content = assembled(Directory(tags_of(WIDTH, HEIGHT, (8,) * 4, 2, _338=extra), (four.tobytes(),)))
        kind = f"8-bit RGB and {name}, all 0"
        yield Case("TIFF", kind, "strips", "none", content, None, 0, "transparent", "wholly_transparent")
    for count in (5, 6):
        values = samples(count, 8)
        options: dict[str, Any] = {"photometric": "rgb", "extrasamples": [0] * (count - 3)}
        kind = f"8-bit RGB and {count - 3} unused channels"
        yield Case("TIFF", kind, "strips", "none", tiff(values, planarconfig="contig", **options), values[..., :3])
        planes = np.moveaxis(values, -1, 0)
        yield Case("TIFF", kind, "planar strips", "none", tiff(planes, planarconfig="separate", **options), values[..., :3])
        bands = tiff(values, planarconfig="contig", extrasamples=[0] * (count - 1))
        yield Case("TIFF", f"8-bit, {count} bands", "strips", "none", bands, None, 0, f"{count} samples a pixel")
