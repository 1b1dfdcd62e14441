"""The format of a file, by its first bytes. A decoder only ever gets files of the four formats that are read."""

import re

from pipeline.decode.faults import Undecodable, unsupported

READ = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
OTHERS = {  # first bytes of pictures and documents whose format the error names
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000 (a bare codestream)",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL (a bare codestream)",
    b"\xff\x10\xff\x50": "JPEG XS",
    b"II\xbc\x01": "JPEG XR",
    b"\x97JB2\r\n\x1a\n": "JBIG2",
    b"8BPS": "Photoshop (PSD)",
    b"BA": "BMP in an OS/2 bitmap array",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"SIMPLE  =": "FITS",
    b"\0\0\1\0": "Windows icon (ICO)",
    b"\0\0\2\0": "Windows cursor (CUR)",
    b"icns": "Apple icon (ICNS)",
    b"qoif": "QOI",
    b"DDS ": "DirectDraw surface (DDS)",
    b"\x01\xda": "SGI",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"\x8aMNG\r\n\x1a\n": "MNG",
    b"\x8bJNG\r\n\x1a\n": "JNG",
    b"gimp xcf": "GIMP (XCF)",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"farbfeld": "farbfeld",
    b"Lerc2 ": "LERC",
    b"CntZImage ": "LERC",
    b"IIU\0": "Panasonic raw (RW2)",
    **dict.fromkeys((b"IIRO", b"IIRS", b"MMOR"), "Olympus raw (ORF)"),
    b"FUJIFILMCCD-RAW": "Fujifilm raw (RAF)",
    b"FOVb": "Sigma raw (X3F)",
    b"AT&TFORM": "DjVu",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\xd7\xcd\xc6\x9a": "Windows metafile (WMF)",
}
NO_PICTURES = (b"%PDF", b"%!PS", b"AT&TFORM", b"\x89HDF\r\n\x1a\n")
"""Of these: documents and data, which stand beside pictures."""
SHORT = (b"BM", b"BA", b"\x01\xda", b"\0\0\1\0", b"\0\0\2\0", b"<svg")
"""Beginnings that other files have too: they name a format only where a picture is expected."""

MEDIA = {  # the brand of an ISO media file
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jph "), "JPEG 2000"),
    b"crx ": "Canon raw (CR3)",
}
PORTABLE = re.compile(rb"P[1-7][\s#]|P[Ff]\n")
PCX = re.compile(rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]")
TARGA = b"TRUEVISION-XFILE.\0"  # at the end of the file


def format_of(encoded: bytes) -> str:
    """A key of `READ`. Raises Undecodable: empty, not_an_image, unsupported_format with the format's name."""
    if not encoded:
        raise Undecodable("empty", "the object has no bytes")
    for name, starts in READ.items():
        if encoded.startswith(starts):
            return name
    other = _other(encoded)
    if other is not None:
        raise unsupported(other)
    raise Undecodable("not_an_image", f"the bytes are no JPEG, PNG, BMP or TIFF; they begin with {encoded[:8]!r}")


def _other(encoded: bytes) -> str | None:
    if encoded.endswith(TARGA):
        return "Targa (TGA)"
    for start, name in OTHERS.items():
        if encoded.startswith(start):
            return name
    if encoded[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "AVI"}.get(encoded[8:12])
    if encoded[4:8] == b"ftyp":
        brands = encoded[8 : min(int.from_bytes(encoded[:4], "big"), 256)]
        named = "AVIF" if b"avif" in brands else MEDIA.get(encoded[8:12])
        return named or "an ISO media file (MP4, MOV or their like)"
    if encoded[128:132] == b"DICM":
        return "DICOM"
    if PORTABLE.match(encoded):
        return "PNM (PBM, PGM, PPM, PAM or PFM)"
    if PCX.match(encoded):
        return "PCX"
    return None
