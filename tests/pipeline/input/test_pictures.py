import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.decode.faults import Undecodable
from pipeline.decode.formats.first_bytes import MEDIA, NO_PICTURES, OTHERS, READ, SHORT, format_of
from pipeline.input.pictures import FIRST_BYTES, begins_as_picture, is_picture, named_as_picture

GREY = Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))


def saved(form, **options):
    sink = io.BytesIO()
    GREY.convert(options.pop("mode", "L")).save(sink, form, **options)
    return sink.getvalue()


PILLOW = ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM", "AVIF"]
CODECS = {
    "jpegxl": imagecodecs.jpegxl_encode,
    "jpegls": imagecodecs.jpegls_encode,
    "jpegxr": imagecodecs.jpegxr_encode,
    "qoi": lambda levels: imagecodecs.qoi_encode(np.stack([levels] * 3, axis=2)),
}


@pytest.mark.parametrize("form", PILLOW)
def test_what_pillow_writes_begins_as_a_picture(form):
    Image.init()
    assert begins_as_picture(saved(form)[:FIRST_BYTES]), form


@pytest.mark.parametrize("codec", CODECS)
def test_what_other_encoders_write_begins_as_a_picture(codec):
    assert begins_as_picture(bytes(CODECS[codec](np.asarray(GREY)))[:FIRST_BYTES])


def test_every_format_that_is_read_begins_as_a_picture():
    for name, beginnings in READ.items():
        for beginning in beginnings:
            header = b"\0" * 12 + b"\x28\0\0\0" if name == "BMP" else b"\0" * 60
            assert begins_as_picture(beginning + header), (name, beginning)


def test_what_the_decoder_names_begins_as_a_picture_unless_it_is_none_or_too_short_to_tell():
    starts = [*OTHERS, *(b"\0\0\0\x20ftyp" + brand for brand in MEDIA)]
    assert {start for start in starts if not begins_as_picture(start + b"\1" * 300)} == {*NO_PICTURES, *SHORT} - {
        b"BM",
        b"<svg",
    }
    for start in starts:
        with pytest.raises(Undecodable) as fault:
            format_of(start + b"\1" * 300)
        assert fault.value.error == "unsupported_format"


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"BM is how this note begins", b"PK\x03\x04", b"%PDF-1.7", b"7", b"\x93NUMPY\x01\0", b"P1", b"\0" * 512),
        *(b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42", b"PAR1", b"\x80\x04\x95", b"<html><svg", b"Position 3"),
    ],
)
def test_other_content_does_not(content):
    assert not begins_as_picture(content)
    assert not is_picture("a.id", content) and is_picture("a.jpg", content) and is_picture("a.id", None)


def test_names_of_pictures():
    for name in ("a.jpg", "a/B.JPEG", "x.mask.png", "a.tif", "a.TIFF", "a.bmp", "a.webp", "a.nef", ".jpg", "a..png"):
        assert named_as_picture(name), name
    for name in ("a", "jpg", "a.jpg/b", "a.jpg.txt", "a.", "a.id", "a.png "):
        assert not named_as_picture(name), name
