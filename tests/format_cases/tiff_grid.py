"""TIFF by what its samples are, how they are laid out, packed and ordered."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tifffile
from format_cases.case import Case, from_cmyk, over_black, samples, shown

TILE = (16, 16)
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 8},
    "tiles": {"tile": TILE},
    "planar strips": {"planarconfig": "separate", "rowsperstrip": 8},
    "planar tiles": {"planarconfig": "separate", "tile": TILE},
}
PACKED: dict[str, dict[str, Any]] = {
    "none": {},
    "LZW": {"compression": "lzw"},
    "LZW, predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "adobe_deflate"},
    "deflate, predictor": {"compression": "adobe_deflate", "predictor": True},
    "PackBits": {"compression": "packbits"},
    "LZMA": {"compression": "lzma"},
    "Zstandard": {"compression": "zstd"},
}
ORDERS = {"little-endian": "<", "big-endian": ">"}


class Samples(NamedTuple):
    """options: of tifffile.imwrite.  values: (H, W, channels).  pixels: (H, W, 3) uint8 that a reader shows."""

    kind: str
    options: dict[str, Any]
    values: np.ndarray
    pixels: np.ndarray
    within: int = 0


def kinds() -> Iterator[Samples]:
    for depth in (8, 16):
        grey, colour, four = (samples(channels, depth) for channels in (1, 3, 4))
        yield Samples(f"{depth}-bit grey", {"photometric": "minisblack"}, grey, shown(grey, depth))
        white = shown((1 << depth) - 1 - grey.astype(np.int64), depth)
        yield Samples(f"{depth}-bit grey, white is zero", {"photometric": "miniswhite"}, grey, white)
        yield Samples(f"{depth}-bit RGB", {"photometric": "rgb"}, colour, shown(colour, depth))
        pixels = shown(four[..., :3], depth)
        blended = over_black(pixels, four[..., 3], depth)
        yield Samples(f"{depth}-bit RGBA", {"photometric": "rgb", "extrasamples": ["unassalpha"]}, four, blended, 1)
        alpha = four.copy()
        alpha[..., :3] = (four[..., :3].astype(np.int64) * four[..., 3:] // ((1 << depth) - 1)).astype(four.dtype)
        premultiplied = {"photometric": "rgb", "extrasamples": ["assocalpha"]}
        yield Samples(f"{depth}-bit RGBA, premultiplied", premultiplied, alpha, shown(alpha[..., :3], depth), 2)
        yield Samples(f"{depth}-bit RGB and an unused channel", {"photometric": "rgb", "extrasamples": [0]}, four, pixels)
        yield Samples(f"{depth}-bit CMYK", {"photometric": "separated"}, four, from_cmyk(four, depth), 1)
        pair = samples(2, depth)
        options = {"photometric": "minisblack", "extrasamples": ["unassalpha"]}
        yield Samples(
            f"{depth}-bit grey and alpha", options, pair, over_black(shown(pair[..., :1], depth), pair[..., 1], depth), 1
        )
        pair_options = {"photometric": "minisblack", "extrasamples": [0]}
        yield Samples(f"{depth}-bit grey and an unused channel", pair_options, pair, shown(pair[..., :1], depth))


def written(found: Samples, layout: str, packed: str, order: str, **more: Any) -> bytes:
    planar = layout.startswith("planar")
    values = np.moveaxis(found.values, -1, 0) if planar else found.values
    values = values[..., 0] if found.values.shape[-1] == 1 else values
    sink = io.BytesIO()
    options = {**found.options, **LAYOUTS[layout], **PACKED[packed], **more}
    if found.values.shape[-1] == 1:
        options.pop("planarconfig", None)
    elif not planar:
        options["planarconfig"] = "contig"
    tifffile.imwrite(sink, np.ascontiguousarray(values), byteorder=ORDERS[order], metadata=None, **options)
    return sink.getvalue()


def cases() -> Iterator[Case]:
    for found in kinds():
        for layout in LAYOUTS:
            if layout.startswith("planar") and found.values.shape[-1] == 1:
                continue
            for packed in PACKED:
                for order in ORDERS:
                    content = written(found, layout, packed, order)
                    place = layout + ("" if order == "little-endian" else ", big-endian")
                    refused = _refused(found.kind, layout, order)
                    yield Case("TIFF", found.kind, place, packed, content, found.pixels, found.within, refused)


def _refused(kind: str, layout: str, order: str) -> str | None:
    """Words of the refusal of what Pillow cannot read, or reads wrong."""
    if "grey and alpha" in kind and layout.startswith("planar"):
        return "grey and alpha in planes"
    if kind == "16-bit grey and alpha" or (kind == "16-bit grey and an unused channel" and not layout.startswith("planar")):
        return "16-bit grey, 2 samples a pixel"
    return "16-bit grey" if kind == "16-bit grey, white is zero" and order == "big-endian" else None
