"""JPEG of every process, and other codings that begin like one."""

import io
from collections.abc import Iterator
from typing import Any

import cv2
import imagecodecs
import numpy as np
from format_cases.case import Case, from_cmyk, samples, shown
from PIL import Image

START_OF_FRAME = {3: "lossless", 5: "hierarchical", 7: "lossless", 11: "lossless", 13: "hierarchical"}
ARITHMETIC = bytes.fromhex(  # 24 x 16 grey, by jpegtran -arithmetic
    "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740"
    "485c4e404457453738506d51575f626768673e4d71797064785c656763ffc9000b080010001801011100ffcc000600101005ffda0008010100003f00"
    "842d401afa3b99526e385dbf640e2c5ea34c86df396416adee4054a6a9bff4a54e07b7006ee826b8b9723bc5d8ee1f99e02fc2987cf6b3327c781ce1"
    "b840001ca03cee9a34c0a56ee34cdbe28ff8d5ca93adf22b47652d075adae5b94ebef16c45d030290ac420ffd9"
)


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", **{"quality": 98, **options})
    return sink.getvalue()


def with_frame(content: bytes, process: int) -> bytes:
    """The JPEG with another start of frame: its header is that of the process, its pixels are not."""
    at = content.index(b"\xff\xc0")
    return content[: at + 1] + bytes([0xC0 + process]) + content[at + 2 :]


def cases() -> Iterator[Case]:
    grey, colour, ink = samples(1, 8, smooth=True), samples(3, 8, smooth=True), samples(4, 8, smooth=True)
    pictures = {
        "8-bit grey": (Image.fromarray(grey[..., 0]), shown(grey, 8)),
        "8-bit colour": (Image.fromarray(colour), colour),
        "8-bit CMYK": (Image.fromarray(ink, "CMYK"), from_cmyk(ink, 8)),
    }
    for kind, (picture, pixels) in pictures.items():
        for layout, options in (
            ("baseline", {}),
            ("progressive", {"progressive": True}),
            ("baseline, own codes", {"optimize": True}),
            ("baseline, restarts", {"restart_marker_blocks": 2}),
        ):
            yield Case("JPEG", kind, layout, "", jpeg(picture, **options), pixels, 12)
        if kind == "8-bit colour":
            for name in ("444", "422", "420", "411", "440"):
                factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")
                _, content = cv2.imencode(
                    ".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
                )
                yield Case("JPEG", f"{kind}, chroma 4:{name[1]}:{name[2]}", "baseline", "", content.tobytes(), pixels, 12)
            yield Case("JPEG", "8-bit RGB not turned into YCbCr", "baseline", "", jpeg(picture, keep_rgb=True), pixels, 6)
        for turn, apply in TURNED.items():
            exif = Image.Exif()
            exif[274] = turn
            yield Case(
                "JPEG",
                kind,
                f"baseline, orientation {turn}",
                "",
                jpeg(picture, exif=exif),
                np.ascontiguousarray(apply(pixels)),
                12,
            )
        content = jpeg(picture)
        for process, words in START_OF_FRAME.items():
            yield Case("JPEG", f"{kind}, {words}", f"process {process}", "", with_frame(content, process), None, refused=words)
    arithmetic = cv2.cvtColor(cv2.imdecode(np.frombuffer(ARITHMETIC, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    yield Case("JPEG", "8-bit grey, arithmetic coding", "baseline", "", ARITHMETIC, arithmetic, 1)
    twelve = (samples(1, 8, smooth=True)[..., 0].astype(np.uint16)) << 4
    yield Case(
        "JPEG", "12-bit grey", "baseline", "", imagecodecs.jpeg8_encode(twelve, 95, bitspersample=12), None, refused="12-bit"
    )
    yield Case(
        "JPEG",
        "12-bit colour",
        "baseline",
        "",
        imagecodecs.jpeg8_encode(samples(3, 8, smooth=True).astype(np.uint16) << 4, 95, bitspersample=12),
        None,
        refused="12-bit",
    )
    yield Case(
        "JPEG", "16-bit grey, lossless", "", "", imagecodecs.ljpeg_encode(samples(1, 16)[..., 0]), None, refused="lossless"
    )
    yield Case("JPEG", "8-bit grey, lossless", "", "", imagecodecs.ljpeg_encode(grey[..., 0].copy()), None, refused="lossless")
    for depth in (8, 12, 16):
        yield Case(
            "JPEG-LS",
            f"{depth}-bit grey",
            "",
            "",
            imagecodecs.jpegls_encode(samples(1, depth)[..., 0].copy()),
            None,
            refused="JPEG-LS",
        )
    yield Case("JPEG-LS", "8-bit colour", "", "", imagecodecs.jpegls_encode(colour), None, refused="JPEG-LS")


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
