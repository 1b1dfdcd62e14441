"""TIFF of several directories: thumbnails before or behind the picture, in the chain or below, and files of several pages."""

from collections.abc import Iterator

import numpy as np
from format_cases.case import HEIGHT, WIDTH, Case, samples, shown
from format_cases.tiff_file import Directory, assembled, tags_of

CFA, LINEAR_RAW = 32803, 34892
GREY, COLOUR = 1, 2


def directory(values: np.ndarray, photometric: int, *inner: Directory, order: str = "<", **tags: int) -> Directory:
    height, width, channels = values.shape
    depth = values.dtype.itemsize * 8
    strip = values.astype(f"{order}u{values.dtype.itemsize}").tobytes()
    return Directory(tags_of(width, height, (depth,) * channels, photometric, **tags), (strip,), inner)


def cases() -> Iterator[Case]:
    small = samples(3, 8)[::8, ::8]
    for order in "<>":
        where = "" if order == "<" else ", big-endian"
        for depth in (8, 16):
            for channels, meaning in ((1, GREY), (3, COLOUR)):
                values = samples(channels, depth)
                pixels = shown(values, depth)
                kind = f"{depth}-bit {'grey' if channels == 1 else 'RGB'} and a thumbnail"
                full = directory(values, meaning, order=order)
                below = directory(small, COLOUR, full, order=order, _254=1)
                yield _case(kind, f"the picture below the thumbnail (SubIFD){where}", assembled(below, order=order), pixels)
                first = directory(small, COLOUR, order=order, _254=1)
                yield _case(kind, f"the thumbnail first{where}", assembled(first, full, order=order), pixels)
                old = directory(small, COLOUR, order=order, _255=2)
                yield _case(kind, f"the thumbnail first, old tag{where}", assembled(old, full, order=order), pixels)
                yield _case(kind, f"the thumbnail last{where}", assembled(full, first, order=order), pixels)
                under = directory(values, meaning, first, order=order)
                yield _case(kind, f"the thumbnail below (SubIFD){where}", assembled(under, order=order), pixels)
    grey, raw = samples(1, 8), samples(1, 16)
    full = directory(grey, GREY)
    smaller = [directory(grey[::step, ::step], GREY, _254=1) for step in (2, 4, 8)]
    yield _case("8-bit grey, pyramid", "every reduction in the chain", assembled(full, *smaller), shown(grey, 8))
    unmarked = directory(grey, GREY, directory(grey[::2, ::2], GREY))
    yield _case("8-bit grey, pyramid", "the reduction below, not marked", assembled(unmarked), shown(grey, 8))
    alone = directory(grey, GREY, _254=1)
    yield _case("8-bit grey, marked as reduced, alone", "one directory", assembled(alone), shown(grey, 8))
    for meaning, words in ((CFA, "Bayer"), (LINEAR_RAW, "linear raw")):
        below = directory(small, COLOUR, directory(raw, meaning), _254=1)
        yield _case(f"camera raw (DNG, NEF), {words}", "below the thumbnail (SubIFD)", assembled(below), None, words)
    turned = directory(small, COLOUR, full, _254=1, _274=6)
    yield _case("8-bit grey, turned by the thumbnail's tag", "below (SubIFD)", assembled(turned), None, "turned by")
    for name, content in (
        ("pages of one size", assembled(full, directory(grey[::-1], GREY))),
        ("pages of two sizes, not marked", assembled(directory(grey[::2, ::2], GREY), full)),
        ("pictures below a thumbnail", assembled(directory(small, COLOUR, full, directory(grey[::-1], GREY), _254=1))),
        ("a larger picture below one that is not marked", assembled(directory(small, COLOUR, full))),
        ("a picture and its mask", assembled(full, directory(grey, 4, _254=4))),
    ):
        yield Case("TIFF", name, "several directories", "none", content, None, 0, "which one to score", "several_images")
    assert (HEIGHT, WIDTH) == grey.shape[:2]


def _case(kind: str, layout: str, content: bytes, pixels: np.ndarray | None, refused: str | None = None) -> Case:
    return Case("TIFF", kind, layout, "none", content, pixels, 0, refused)
