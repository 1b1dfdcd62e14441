"""Which directory of a TIFF is the picture, as other writers make them and when they are damaged."""

import io
import struct

import numpy as np
import pytest
import tifffile
from format_cases.case import samples, shown
from format_cases.tiff_directories import directory
from format_cases.tiff_file import assembled
from PIL import Image, TiffImagePlugin

from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import Picture, decode_image

GREY = samples(1, 16)
SMALL = (GREY[::4, ::4, 0] >> 8).astype(np.uint8)


def decoded(content: bytes) -> Picture:
    return decode_image(content, DecodeConfig(height=GREY.shape[0], width=GREY.shape[1]))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("packed", [None, "zlib", "lzw"])
def test_thumbnails_as_tifffile_writes_them(order: str, big: bool, packed: str | None) -> None:
    for below in (False, True):
        sink = io.BytesIO()
        with tifffile.TiffWriter(sink, byteorder=order, bigtiff=big) as writer:
            writer.write(SMALL, photometric="minisblack", subfiletype=1, subifds=1 if below else None)
            writer.write(GREY[..., 0], photometric="minisblack", compression=packed)
        if big and order == ">":
            with pytest.raises(Undecodable, match="big-endian BigTIFF"):
                decoded(sink.getvalue())
            continue
        picture = decoded(sink.getvalue())
        assert (picture.width, picture.height) == (48, 32) and (picture.pixels == shown(GREY, 16)).all()


def test_a_pyramid_as_tifffile_writes_it() -> None:
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as writer:
        writer.write(GREY[..., 0], photometric="minisblack", tile=(16, 16), subifds=2)
        for step in (2, 4):
            writer.write(GREY[::step, ::step, 0], photometric="minisblack", tile=(16, 16), subfiletype=1)
    assert (decoded(sink.getvalue()).pixels == shown(GREY, 16)).all()


def test_directories_that_lead_nowhere() -> None:
    full, thumbnail = directory(GREY, 1), directory(GREY[::4, ::4], 1, _254=1)
    content = assembled(thumbnail, full)
    first = struct.unpack_from("<I", content, 4)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * struct.unpack_from("<H", content, first)[0])[0]
    link = first + 2 + 12 * struct.unpack_from("<H", content, first)[0]
    end = second + 2 + 12 * struct.unpack_from("<H", content, second)[0]
    loop = content[:end] + struct.pack("<I", first) + content[end + 4 :]
    assert (decoded(loop).pixels == shown(GREY, 16)).all()
    for nowhere in (7, len(content) - 3, len(content) + 9, 0xFFFFFFFF):
        with pytest.raises(Undecodable) as caught:
            decoded(content[:link] + struct.pack("<I", nowhere) + content[link + 4 :])
        assert caught.value.error in ("corrupt", "unsupported_format"), nowhere
    below = assembled(directory(GREY, 1, _330=len(content) + 50))
    assert (decoded(below).pixels == shown(GREY, 16)).all(), "a directory below that cannot be read is left out"


def test_what_libtiff_is_needed_for_changes_nothing_else() -> None:
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.moveaxis(samples(3, 16), -1, 0).copy(), photometric="rgb", planarconfig="separate")
    assert (decoded(sink.getvalue()).pixels == samples(3, 16) >> 8).all()
    assert TiffImagePlugin.READ_LIBTIFF is False
    plain = io.BytesIO()
    Image.fromarray(SMALL).save(plain, "TIFF")
    image = Image.open(plain)
    assert image.tile[0].codec_name == "raw"
