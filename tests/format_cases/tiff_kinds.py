"""TIFF of every other kind: depths, palettes, fax, JPEG inside, number formats, raw cameras, several directories."""

import io
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from format_cases.case import HEIGHT, WIDTH, Case, samples, shown
from format_cases.tiff_file import Directory, assembled, packed_bits, tags_of
from PIL import Image

PACKERS = {
    "none": (1, bytes),
    "LZW": (5, imagecodecs.lzw_encode),
    "deflate": (8, zlib.compress),
    "PackBits": (32773, imagecodecs.packbits_encode),
}
ORDERS = {"little-endian": "<", "big-endian": ">"}


def tiff(values: np.ndarray, order: str = "<", big: bool = False, **options: Any) -> bytes:
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink, byteorder=order, bigtiff=big) as writer:
        writer.write(np.ascontiguousarray(values), metadata=None, **{"photometric": "minisblack", **options})
    return sink.getvalue()


def cases() -> Iterator[Case]:
    yield from _depths()
    yield from _palettes()
    yield from _ycbcr()
    yield from _orientations()
    yield from _numbers()
    yield from _packings()
    yield from _meanings()


def _depths() -> Iterator[Case]:
    for name, order in ORDERS.items():
        for packed, (number, pack) in PACKERS.items():
            for width in (WIDTH, WIDTH - 1):
                grey = samples(1, 12)[:, :width, 0]
                directory = Directory(tags_of(width, HEIGHT, (12,), 1, _259=number), (pack(packed_bits(grey, 12)),))
                yield Case(
                    "TIFF", f"12-bit grey, packed, {name}", "strips", packed, assembled(directory, order=order), shown(grey, 12)
                )
    for depth in (2, 4):
        for width in (WIDTH, WIDTH - 1):
            grey = samples(1, depth)[:, :width, 0]
            yield Case("TIFF", f"{depth}-bit grey", "strips", "none", tiff(grey, bitspersample=depth), shown(grey, depth))
    for depth in (6, 10, 14):
        grey = samples(1, depth)[..., 0]
        yield Case(
            "TIFF", f"{depth}-bit grey, packed", "strips", "none", tiff(grey, bitspersample=depth), None, refused=f"{depth}-bit"
        )
    colour = samples(3, 12)
    yield Case(
        "TIFF",
        "12-bit RGB, packed",
        "strips",
        "none",
        tiff(colour, photometric="rgb", bitspersample=12),
        None,
        refused="12-bit",
    )
    bits = samples(1, 1)[..., 0].astype(bool)
    for white in ("minisblack", "miniswhite"):
        pixels = shown((bits if white == "minisblack" else ~bits).astype(np.uint8), 1)
        for packed in (None, "packbits", "lzw", "zlib"):
            yield Case(
                "TIFF", f"1-bit, {white}", "strips", packed or "none", tiff(bits, photometric=white, compression=packed), pixels
            )
        for packed, _number in (("tiff_ccitt", 2), ("group3", 3), ("group4", 4)):
            for order in (1, 2):
                sink = io.BytesIO()
                Image.fromarray(bits).save(
                    sink, "TIFF", compression=packed, tiffinfo={262: int(white == "minisblack"), 266: order}
                )
                yield Case("TIFF", f"1-bit, {white} fillorder {order}", "strips", packed, sink.getvalue(), pixels)


def _palettes() -> Iterator[Case]:
    colours = np.random.default_rng(5).integers(0, 1 << 16, (3, 256), dtype=np.uint16)
    index = samples(1, 8)[..., 0]
    pixels = (colours[:, index] >> 8).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
    for packed in (None, "lzw", "zlib"):
        yield Case(
            "TIFF",
            "8-bit palette",
            "strips",
            packed or "none",
            tiff(index, photometric="palette", colormap=colours, compression=packed),
            pixels,
        )


def _ycbcr() -> Iterator[Case]:
    colour = samples(3, 8, smooth=True)
    grey = samples(1, 8, smooth=True)[..., 0].copy()
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 98}}
    for layout, option in (("strips", {"rowsperstrip": 16}), ("tiles", {"tile": (16, 16)})):
        yield Case(
            "TIFF",
            "8-bit grey",
            layout,
            "JPEG",
            assembled(Directory(tags_of(WIDTH, HEIGHT, (8,), 1, _259=7), (imagecodecs.jpeg_encode(grey, 98),))),
            shown(grey, 8),
            6,
        )
        yield Case("TIFF", "8-bit RGB", layout, "JPEG", tiff(colour, photometric="rgb", **jpeg, **option), colour, 6)
        for sub in ((1, 1), (2, 1), (2, 2)):
            yield Case(
                "TIFF",
                f"8-bit YCbCr {sub}",
                layout,
                "JPEG",
                tiff(colour, photometric="ycbcr", subsampling=sub, **jpeg, **option),
                colour,
                12,
            )
        yield Case(
            "TIFF",
            "8-bit RGB, planar",
            layout,
            "JPEG",
            assembled(
                Directory(
                    tags_of(WIDTH, HEIGHT, (8, 8, 8), 2, _259=7, _284=2),
                    tuple(imagecodecs.jpeg_encode(colour[..., i].copy(), 98) for i in range(3)),
                )
            ),
            colour,
            6,
        )
    ycc = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    yield Case("TIFF", "8-bit YCbCr", "strips", "none", tiff(ycc, photometric="ycbcr", subsampling=(1, 1)), None)
    yield Case(
        "TIFF", "8-bit YCbCr", "strips", "lzw", tiff(ycc, photometric="ycbcr", subsampling=(1, 1), compression="lzw"), None
    )


def _orientations() -> Iterator[Case]:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    for turn, apply in turned.items():
        for depth in (8, 16):
            for channels in (1, 3):
                values = samples(channels, depth)
                content = tiff(
                    values.squeeze(), photometric="rgb" if channels == 3 else "minisblack", extratags=[(274, 3, 1, turn, True)]
                )
                yield Case(
                    "TIFF",
                    f"orientation {turn}, {depth}-bit {channels}",
                    "strips",
                    "none",
                    content,
                    np.ascontiguousarray(apply(shown(values, depth))),
                )


def _numbers() -> Iterator[Case]:
    for kind, words in (
        ("float16", "16-bit float"),
        ("float32", "32-bit float"),
        ("float64", "64-bit float"),
        ("int8", "signed"),
        ("int16", "signed"),
        ("int32", "signed"),
        ("uint32", "32-bit"),
        ("uint64", "64-bit"),
        ("int64", "signed"),
        ("complex64", "complex"),
    ):
        for name, order in ORDERS.items():
            values = samples(1, 8)[..., 0].astype(kind)
            yield Case("TIFF", f"{kind} {name}", "strips", "none", tiff(values, order), None, refused=words)
    for kind in ("float16", "float32", "uint32"):
        yield Case(
            "TIFF",
            f"{kind} RGB",
            "strips",
            "deflate",
            tiff(samples(3, 8).astype(kind), photometric="rgb", compression="zlib"),
            None,
            refused="-bit",
        )


def _packings() -> Iterator[Case]:
    grey, colour = samples(1, 8)[..., 0], samples(3, 8)
    for packed, words in (
        ("lerc", "LERC"),
        ("jpeg2000", "JPEG 2000"),
        ("jpegxl", "JPEG XL"),
        ("webp", "WebP"),
        ("png", "PNG"),
        ("jpegxr", "JPEG XR"),
        ("jpegls", "JPEG-LS"),
        ("ljpeg", "lossless JPEG"),
        ("bzip2", "bz"),
    ):
        for values, meaning in ((grey, "minisblack"), (colour, "rgb")):
            try:
                content = tiff(values, photometric=meaning, compression=packed)
            except Exception as e:
                print("no", packed, e)
                continue
            if packed == "webp":
                yield Case("TIFF", f"8-bit {meaning}", "strips", packed, content, values)
                continue
            yield Case("TIFF", f"8-bit {meaning}", "strips", packed, content, None, refused=words)


def _meanings() -> Iterator[Case]:
    grey, colour = samples(1, 16)[..., 0], samples(3, 8)
    yield Case(
        "TIFF",
        "cfa",
        "strips",
        "none",
        tiff(grey, photometric="cfa", extratags=[(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]),
        None,
        refused="Bayer",
    )
    yield Case("TIFF", "linear raw", "strips", "none", tiff(colour, photometric="linear_raw"), None, refused="raw")
    for lab in ("cielab", "icclab", "itulab"):
        yield Case("TIFF", lab, "strips", "none", tiff(colour, photometric=lab), None, refused="Lab")
    for n in (2, 4, 5, 6, 10):
        yield Case(
            "TIFF",
            f"{n} channels",
            "strips",
            "none",
            tiff(samples(n, 8), planarconfig="contig", extrasamples=[0] * (n - 1)),
            None,
        )
        yield Case(
            "TIFF",
            f"{n} channels planar",
            "strips",
            "none",
            tiff(np.moveaxis(samples(n, 8), -1, 0), planarconfig="separate", extrasamples=[0] * (n - 1)),
            None,
        )
        if n > 3:
            yield Case(
                "TIFF",
                f"rgb {n} channels planar",
                "strips",
                "none",
                tiff(np.moveaxis(samples(n, 8), -1, 0), photometric="rgb", planarconfig="separate", extrasamples=[0] * (n - 3)),
                None,
            )
            yield Case(
                "TIFF",
                f"rgb {n} channels ",
                "strips",
                "none",
                tiff(samples(n, 8), photometric="rgb", planarconfig="contig", extrasamples=[0] * (n - 3)),
                None,
            )
