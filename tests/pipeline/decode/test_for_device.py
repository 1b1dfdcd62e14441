"""Which images of a unit a GPU may decode, and what the others and the damaged ones get."""

import struct

import pytest
from dangerous_decoders import table
from made_pictures import picture

from pipeline.decode.config import DecodeConfig
from pipeline.decode.for_device import may_take, sorted_for_device
from pipeline.decode.unit import SCHEMA, decode_unit
from pipeline.input.encoded_rows import Fault

CONFIG = DecodeConfig(height=16, width=24, resize="pad", decoder="cuda")


def exif(orientation, order="<"):
    """A segment's content with one entry; None: with none."""
    entries = [] if orientation is None else [struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)]
    name = {"<": b"II", ">": b"MM"}[order]
    head = name + struct.pack(order + "HIH", 42, 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + bytes(4)


def stored_as_rgb():
    """What an encoder writes that keeps RGB: an Adobe segment of transform 0."""
    whole = picture()
    return whole[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + whole[2:]


def behind_the_frame(content, marker=b"\xff\xe1"):
    """A segment between the header of the frame and the first scan."""
    whole = picture()
    scan = whole.index(b"\xff\xda")
    return whole[:scan] + marker + struct.pack(">H", 2 + len(content)) + content + whole[scan:]


@pytest.mark.parametrize(
    "encoded",
    [
        picture(),
        behind_the_frame(exif(1)),
        picture(mode="L"),
        picture(subsampling=0),
        picture(exif=exif(1)),
        picture(exif=exif(None)),
        picture(exif=exif(1, ">")),
    ],
)
def test_upright_baseline_jpegs_go_to_the_device(encoded):
    assert may_take(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        picture("PNG"),
        picture(progressive=True),
        picture(mode="CMYK"),
        picture(exif=exif(6)),
        picture(exif=exif(3, ">")),
        picture(exif=exif(1)[:-9]),
        picture(xmp=b"<x tiff:Orientation='6'/>"),
        stored_as_rgb(),
        behind_the_frame(exif(3)),
        behind_the_frame(b"<x tiff:Orientation='6'/>"),
        behind_the_frame(b"Adobe\0\x64\0\0\0\0\0", b"\xff\xee"),
        behind_the_frame(picture()[picture().index(b"\xff\xc0") + 4 :][:15], b"\xff\xc0"),
        picture()[: picture().index(b"\xff\xda")],
        picture()[:100],
        b"\xff\xd8\xff",
        b"",
    ],
)
def test_everything_else_stays_with_the_cpu(encoded):
    assert not may_take(encoded)


def test_the_cpu_finds_the_damage_and_decodes_what_the_device_does_not():
    contents = [
        picture(),
        picture()[:-300],
        Fault("gone", "x"),
        picture("PNG"),
        picture()[:-300] + picture()[-200:],
        b"junk",
        picture(progressive=True),
        picture(mode="L"),
        picture(size=(30, 20), exif=exif(6)),
    ]
    wanted = decode_unit(table(contents, "jpg"), CONFIG)
    found = sorted_for_device(table(contents, "jpg"), CONFIG, 20)
    for name in ("position", "uri", "width", "height", "captured_at", "stage", "error", "message"):
        assert found.table[name].equals(wanted.table[name]), name
    assert found.table["error"].to_pylist()[:6] == [None, "truncated", "gone", None, "corrupt", "not_an_image"]
    assert [cell.is_valid for cell in found.table["encoded"]] == [True] + 6 * [False] + [True, False]
    assert found.table["encoded"][0].as_py() == contents[0]
    assert (found.pixels == wanted.pixels[[3, 6, 8]]).all()
    assert found.table.column_names == [*SCHEMA.names, "encoded"]
