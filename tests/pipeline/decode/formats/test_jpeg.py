"""Damage that libjpeg warns of is refused, but for a few bytes of padding that cameras leave."""

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
import simplejpeg
from format_cases.tiff_file import Directory, assembled, tags_of
from PIL import Image

from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.formats import jpeg
from pipeline.decode.image import decode_image

SIDE = 128
CONFIG = DecodeConfig(height=SIDE, width=SIDE)
CODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
END = b"\xff\xd9"


def picture(mode: str) -> Image.Image:
    """Smooth above, the same everywhere below: the end of its scan is short codes that repeat."""
    coarse = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).copy()
    smooth[96:] = 128
    return Image.fromarray(smooth).convert(mode)


def encoded(mode: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture(mode).save(sink, "JPEG", **{"quality": 90, **options})
    return sink.getvalue()


def flipped(content: bytes, rng: random.Random, bits: int) -> bytes:
    """With bits of its scan turned over."""
    damaged = bytearray(content)
    start = content.find(b"\xff\xda") + 14
    for _ in range(bits):
        damaged[rng.randrange(start, len(content) - 2)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def warning(content: bytes, code: str) -> str:
    try:
        simplejpeg.decode_jpeg(content, code)
    except ValueError as error:
        return str(error)
    return ""


def fault(content: bytes) -> str | None:
    try:
        decode_image(content, CONFIG)
    except Undecodable as error:
        return error.error
    return None


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 2}], ids=str
)
def test_no_flipped_bit_that_libjpeg_warns_of_is_scored(code: str, options: dict[str, Any]) -> None:
    whole, rng = encoded(CODES[code], **options), random.Random(str(options))
    warned = 0
    for bits in (1, 1, 2, 5, 20) * 20:
        content = flipped(whole, rng, bits)
        words = warning(content, code)
        warned += bool(words)
        assert (fault(content) is not None) == bool(words), words
    assert warned >= 20


def test_bytes_that_a_damaged_scan_leaves_over_are_not_taken_for_padding() -> None:
    rng = random.Random(0)
    noise = Image.fromarray(np.random.default_rng(1).integers(90, 160, (SIDE, SIDE), dtype=np.uint8))
    left_over = 0
    for quality in (30, 60, 90):
        sink = io.BytesIO()
        noise.save(sink, "JPEG", quality=quality)
        for _ in range(100):
            content = flipped(sink.getvalue(), rng, rng.choice((1, 2, 20)))
            if "extraneous bytes before marker 0xd9" in warning(content, "GRAY"):
                left_over += 1
                assert fault(content) == "corrupt"
    assert left_over > 100


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("padding", [b"\0", b"\0" * 3, b"\0" * 8, b"\0" * 11, b"\0" * 16, b"\0\xff\0\0", b"\xff" * 40])
def test_padding_before_the_end_is_no_damage(code: str, padding: bytes) -> None:
    whole = encoded(CODES[code])
    padded = whole[:-2] + padding + END + b"\0" * 4
    assert (decode_image(padded, CONFIG).pixels == decode_image(whole, CONFIG).pixels).all()
    thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(padded) + 2) + padded + padded[2:]  # its end is not the end
    assert (decode_image(thumbnail, CONFIG).pixels == decode_image(whole, CONFIG).pixels).all()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "rest", [b"\0" * 40, b"\x12\x34\x56" * 4, b"\0" * 8 + b"\x01" + b"\0" * 3, b"\0\0\0\0\xff\0\0\x80\0\0"]
)
def test_more_padding_or_anything_else_before_the_end_is_damage(code: str, rest: bytes) -> None:
    assert fault(encoded(CODES[code])[:-2] + rest + END) == "corrupt"


@pytest.mark.parametrize("code", CODES)
def test_other_damage_of_the_scan_is_damage(code: str) -> None:
    whole = encoded(CODES[code], restart_marker_blocks=3)
    restart = whole.index(b"\xff\xd1", whole.rfind(b"\xff\xda"))
    interval = whole.index(b"\xff\xdd")
    damaged = {
        "cut, and ended": whole[: len(whole) // 2] + END,
        "a restart missing": whole[:restart] + whole[restart + 2 :],
        "another restart": whole[:restart] + b"\xff\xd4" + whole[restart + 2 :],
        "bytes before a restart": whole[:restart] + bytes(9) + whole[restart:],
        "another interval": whole[: interval + 4] + b"\0\x05" + whole[interval + 6 :],
        "bytes before a table": whole[:interval] + b"\x11\x22\x33" + whole[interval:],
    }
    assert {name: fault(content) for name, content in damaged.items() if fault(content) not in ("corrupt", "truncated")} == {}


def test_damage_of_a_jpeg_within_a_tiff() -> None:
    whole, rng = encoded("L"), random.Random(4)
    found = []
    for _ in range(60):
        strip = flipped(whole, rng, 5)
        content = assembled(Directory(tags_of(SIDE, SIDE, (8,), 1, _259=7), (strip,)))
        found.append((bool(warning(strip, "GRAY")), fault(content)))
    assert (
        all(error in ("corrupt", "truncated") for warned, error in found if warned) and sum(warned for warned, _ in found) > 20
    )
    sound = assembled(Directory(tags_of(SIDE, SIDE, (8,), 1, _259=7), (whole,)))
    assert fault(sound) is None


def test_a_large_lossless_jpeg_ends_no_decoder() -> None:
    """libjpeg-turbo reads past its memory when it is to reduce one: it must not be asked to."""
    header = b"\xff\xd8\xff\xc3\x00\x0b\x08\x07\xd0\x0b\xb8\x01\x01\x11\x00"
    with pytest.raises(Undecodable, match="a lossless JPEG of 8 bits"):
        decode_image(header + bytes(1000), CONFIG)


@pytest.mark.parametrize("cut", range(2, 40))
def test_a_header_that_ends_anywhere(cut: int) -> None:
    jpeg.check_kind(encoded("L")[:cut])
    assert fault(encoded("L")[:cut]) in ("corrupt", "truncated", "not_an_image")
