"""Pictures of formats that are not read: each is refused by its name."""

import io
from collections.abc import Iterator

import cv2
import imagecodecs
import numpy as np
from format_cases.case import Case, samples
from PIL import Image


def cases() -> Iterator[Case]:
    colour = samples(3, 8, smooth=True)
    for name, content in _files(colour):
        yield Case(name, "colour or grey", "", "", content, None, refused=name.partition(" ")[0])


def _files(colour: np.ndarray) -> Iterator[tuple[str, bytes]]:
    grey = colour[..., 0].copy()
    picture = Image.fromarray(colour)
    for name in ("GIF", "WEBP", "AVIF", "JPEG2000", "PCX", "PPM", "SGI", "TGA", "ICO", "ICNS", "DDS", "QOI", "PDF", "EPS"):
        sink = io.BytesIO()
        (picture.resize((48, 48)) if name in ("ICO", "ICNS") else picture).save(sink, name)
        yield NAMES[name], sink.getvalue()
    for mode in ("1", "L"):
        sink = io.BytesIO()
        picture.convert(mode).save(sink, "PPM")
        yield "PNM", sink.getvalue()
    yield "PNM", b"P2\n# by hand\n2 1\n255\n0 255\n"
    yield "PNM", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\0"
    yield "PNM", b"Pf\n2 1\n-1.0\n" + bytes(8)
    yield "JPEG 2000", bytes(imagecodecs.jpeg2k_encode(colour, codecformat="j2k"))
    yield "JPEG 2000", bytes(imagecodecs.jpeg2k_encode(grey))
    for coded in (colour, grey):
        yield "JPEG XL", bytes(imagecodecs.jpegxl_encode(coded))
        yield "JPEG XL", bytes(imagecodecs.jpegxl_encode(coded, usecontainer=True))
        yield "JPEG XR", bytes(imagecodecs.jpegxr_encode(coded))
        yield "LERC", bytes(imagecodecs.lerc_encode(coded))
    yield "JPEG XS", b"\xff\x10\xff\x50" + bytes(60)
    for extension, name in ((".hdr", "Radiance HDR"), (".ras", "Sun raster"), (".pfm", "PNM")):
        written, content = cv2.imencode(extension, colour.astype(np.float32) if extension != ".ras" else colour)
        assert written
        yield name, content.tobytes()
    for brand in (b"heic", b"heix", b"mif1", b"hevc"):
        yield "HEIC", b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(40)
    yield "AVIF", b"\0\0\0\x1cftypmif1" + bytes(4) + b"mif1avifmiaf" + bytes(40)
    yield "Canon raw", b"\0\0\0\x18ftypcrx " + bytes(4) + b"crx isom" + bytes(40)
    yield "DICOM", bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + bytes(60)
    yield "FITS", b"SIMPLE  =                    T / made up".ljust(2880)
    yield "Photoshop", b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x20\0\0\0\x30\0\x08\0\3" + bytes(60)
    yield "OpenEXR", b"v/1\x01\x02\0\0\0" + bytes(60)
    yield "JBIG2", b"\x97JB2\r\n\x1a\n\x01\0\0\0\1" + bytes(60)
    yield "GIMP", b"gimp xcf file\0" + bytes(60)
    yield "Fujifilm raw", b"FUJIFILMCCD-RAW 0201" + bytes(60)
    yield "Panasonic raw", b"IIU\0\x18\0\0\0" + bytes(60)
    yield "Olympus raw", b"IIRO\x08\0\0\0" + bytes(60)
    yield "Sigma raw", b"FOVb\0\0\2\0" + bytes(60)
    yield "DjVu", b"AT&TFORM\0\0\0\x20DJVU" + bytes(60)
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"


NAMES = {
    **{"GIF": "GIF", "WEBP": "WebP", "AVIF": "AVIF", "JPEG2000": "JPEG 2000", "PCX": "PCX", "PPM": "PNM", "SGI": "SGI"},
    **{"TGA": "Targa", "ICO": "Windows icon", "ICNS": "Apple icon", "DDS": "DirectDraw surface", "QOI": "QOI", "PDF": "PDF"},
    "EPS": "PostScript",
}
