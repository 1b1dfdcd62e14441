import io
import os
import pickle
import random
import struct
import zlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from dangerous_decoders import table as table_of
from PIL import Image, ImageCms, ImageFilter, ImageOps
from scipy import ndimage

from models.maps.content_box import content_box
from models.roi.region import FILL, RegionOfInterest, inside
from pipeline.decode import image as decode
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.geometry import cut_tiles, tiled_size
from pipeline.decode.image import decode_image, grey_statistics
from pipeline.decode.image_file import load_8bit
from pipeline.decode.resize import FILTER
from pipeline.decode.unit import SCHEMA, decode_unit
from pipeline.input.encoded_rows import Fault

CONFIG = DecodeConfig(height=48, width=64)


def surface(size=(90, 60), seed=0):
    """A smooth RGB picture, (width, height)."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def encoded(picture, form="PNG", **options):
    sink = io.BytesIO()
    picture.save(sink, form, **options)
    return sink.getvalue()


def reference(picture, size=(64, 48)):
    return np.asarray(picture.convert("RGB").resize(size, FILTER))


def fault(content, config=CONFIG):
    with pytest.raises(Undecodable) as caught:
        decode_image(content, config)
    assert " at 0x" not in str(caught.value)  # no memory addresses: rows are the same in every run
    return caught.value.error


def table(*contents):
    return table_of(contents, "jpg")


GREY16 = Image.fromarray(np.linspace(0, 65535, 90 * 60).reshape(60, 90).astype(np.uint16))
BASE = surface()


@pytest.mark.parametrize(
    ("content", "picture", "tolerance"),
    [
        (encoded(BASE), BASE, 0),
        (encoded(BASE, "BMP"), BASE, 0),
        (encoded(BASE, "TIFF"), BASE, 0),
        (encoded(BASE, "TIFF", compression="tiff_lzw"), BASE, 0),
        (encoded(BASE, "TIFF", compression="tiff_adobe_deflate"), BASE, 0),
        (encoded(BASE, "TIFF", compression="jpeg", quality=95), BASE, 6),
        (encoded(BASE, "JPEG", quality=95), BASE, 10),
        (encoded(BASE, "JPEG", quality=95, progressive=True, subsampling=0), BASE, 6),
        (encoded(BASE, "MPO", quality=95, save_all=True, append_images=[BASE.rotate(9)]), BASE, 10),
        (encoded(BASE.convert("L")), BASE.convert("L"), 0),
        (encoded(BASE.convert("L"), "BMP"), BASE.convert("L"), 0),
        (encoded(BASE.convert("L"), "TIFF"), BASE.convert("L"), 0),
        (encoded(BASE.convert("L"), "JPEG", quality=95), BASE.convert("L"), 5),
        (encoded(BASE.convert("1")), BASE.convert("1").convert("L"), 0),
        (encoded(BASE.convert("1"), "TIFF", compression="group4"), BASE.convert("1").convert("L"), 0),
        (encoded(BASE.convert("P")), BASE.convert("P"), 0),
        (encoded(BASE.convert("P"), "BMP"), BASE.convert("P"), 0),
        (encoded(BASE.convert("RGBA")), BASE, 0),
        (encoded(BASE.convert("RGBA"), "TIFF"), BASE, 0),
        (encoded(BASE.convert("LA")), BASE.convert("L"), 0),
        (encoded(BASE.convert("CMYK"), "TIFF"), BASE, 1),
        (encoded(BASE.convert("CMYK"), "JPEG", quality=95), BASE, 8),
        (encoded(GREY16), Image.fromarray((np.asarray(GREY16) / 257 + 0.5).astype(np.uint8)), 0),
        (encoded(GREY16, "TIFF"), Image.fromarray((np.asarray(GREY16) / 257 + 0.5).astype(np.uint8)), 0),
    ],
)
def test_every_format_and_mode(content, picture, tolerance):
    decoded = decode_image(content, CONFIG)
    assert decoded.pixels.shape == (48, 64, 3) and decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (90, 60)
    assert np.abs(decoded.pixels.astype(int) - reference(picture)).max() <= tolerance


def test_sixteen_bits_are_scaled_linearly():
    levels = np.array([[0, 128, 129, 257, 4095, 65535]], np.uint16)

    def scaled(**options):
        config = DecodeConfig(height=1, width=6, **options)
        return [
            decode_image(encoded(Image.fromarray(levels), form), config).pixels[0, :, 0].tolist() for form in ("PNG", "TIFF")
        ]

    assert scaled() == [[0, 0, 1, 1, 16, 255]] * 2
    assert scaled(white_level=4095) == [[0, 8, 8, 16, 255, 255]] * 2


def colour_16bit_png():
    """A PNG of one pixel, RGB of 16 bits (255, 128 * 257, 65535)."""
    return unusual_png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 255, 128 * 257, 65535))


def test_colour_of_sixteen_bits_keeps_its_high_byte():
    one = DecodeConfig(height=1, width=1)
    assert decode_image(colour_16bit_png(), one).pixels.tolist() == [[[0, 128, 255]]]
    assert fault(colour_16bit_png(), DecodeConfig(height=1, width=1, white_level=4095)) == "unsupported_mode"


def test_min_is_white_tiff_is_inverted():
    levels = np.array([[0, 65535]], np.uint16)
    content = encoded(Image.fromarray(levels), "TIFF", tiffinfo={262: 0})
    assert decode_image(content, DecodeConfig(height=1, width=2)).pixels[0, :, 0].tolist() == [255, 0]


def test_transparency_is_black():
    picture = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    picture.putpixel((1, 0), (200, 100, 50, 51))
    config = DecodeConfig(height=1, width=2)
    assert decode_image(encoded(picture), config).pixels.tolist() == [[[200, 100, 50], [40, 20, 10]]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 200, 200, 200])
    palette.putpixel((1, 0), 1)
    assert decode_image(encoded(palette, transparency=1), config).pixels[0, :, 0].tolist() == [9, 0]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_exif_orientation(form, turn, resize):
    exif = Image.Exif()
    exif[274] = turn
    options = {"tiffinfo": {274: turn}} if form == "TIFF" else {"exif": exif}
    content = encoded(BASE, form, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    config = DecodeConfig(height=48, width=64, resize=resize)
    found, wanted = decode_image(content, config), decode_image(encoded(upright), config)
    assert (found.width, found.height) == upright.size
    assert np.abs(found.pixels.astype(int) - wanted.pixels).max() <= 2


def test_padding_keeps_the_aspect_and_repeats_the_edge():
    picture = Image.fromarray(np.tile(np.arange(0, 200, 2, dtype=np.uint8)[:, None], (1, 50)))  # 50 wide, 100 high
    pixels = decode_image(encoded(picture), DecodeConfig(height=100, width=120, resize="pad")).pixels[:, :, 0]
    assert (pixels == np.arange(0, 200, 2)[:, None]).all()
    wide = decode_image(encoded(picture.rotate(90, expand=True)), DecodeConfig(height=100, width=50, resize="pad")).pixels
    assert (wide[:37] == wide[37]).all() and (wide[62:] == wide[62]).all() and wide.shape == (100, 50, 3)
    line = decode_image(encoded(Image.new("L", (1, 3000), 7)), DecodeConfig(height=32, width=32, resize="pad"))
    assert (line.pixels == 7).all() and (line.width, line.height) == (1, 3000)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_reduced_while_decoding_differs_little(subsampling):
    """The bound that decode.py states: 0.4 levels on average, 4 anywhere, on noise of a few pixels."""
    rng = np.random.default_rng(subsampling)
    noise = Image.fromarray(rng.integers(0, 255, (1200, 1600, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    content = encoded(noise, "JPEG", quality=92, subsampling=subsampling)
    found = decode_image(content, DecodeConfig(height=128, width=160)).pixels.astype(int)
    full = np.asarray(Image.open(io.BytesIO(content)).resize((160, 128), FILTER)).astype(int)
    assert np.abs(found - full).max() <= 4 and np.abs(found - full).mean() <= 0.4


@pytest.mark.parametrize(("height", "eighths"), [(400, 8), (201, 8), (200, 4), (151, 4), (150, 3), (100, 2), (50, 1), (9, 1)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_reduced_by_half_at_least_or_not_at_all(mode, height, eighths):
    content = encoded(surface((800, 400)).convert(mode), "JPEG")
    pixels = load_8bit(Image.open(io.BytesIO(content)), content, (height, height), 65535)
    assert pixels.shape[:2] == (400 * eighths // 8, 800 * eighths // 8)


def test_statistics_of_the_resized_grey_image():
    grey = np.asarray(surface((64, 48)).convert("L"))
    brightness, contrast, sharpness = grey_statistics(grey)
    laplacian = ndimage.convolve(grey.astype(float), np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]))[1:-1, 1:-1]
    assert (brightness, contrast, sharpness) == pytest.approx((grey.mean(), grey.std(), laplacian.var()))
    picture = decode_image(encoded(surface((64, 48))), CONFIG)
    assert (picture.brightness, picture.contrast, picture.sharpness) == (brightness, contrast, sharpness)
    assert grey_statistics(np.full((1, 1), 9, np.uint8)) == (9.0, 0.0, 0.0)


def with_time(**tags):
    exif = Image.Exif()
    exif[0x0110] = "camera"  # Pillow writes none into a PNG whose first directory is empty
    exif.get_ifd(0x8769).update(
        {{"time": 0x9003, "offset": 0x9011, "fraction": 0x9291}[name]: tag for name, tag in tags.items()}
    )
    return exif


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({"time": "2026:07:01 12:00:00"}, datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ({"time": "2026:01:01 12:00:00"}, datetime(2026, 1, 1, 11, tzinfo=UTC)),
        ({"time": "2026:07:01 12:00:00", "offset": "-05:30", "fraction": "25"}, datetime(2026, 7, 1, 17, 30, 0, 250000, UTC)),
        ({"time": "0000:00:00 00:00:00"}, None),
        ({"time": "2026:13:01 12:00:00"}, None),
        ({"time": "yesterday"}, None),
        ({"offset": "+01:00"}, None),
        ({"time": "2026:07:01 12:00:00", "offset": "+99:99"}, None),
        ({"time": "0001:01:01 00:00:00", "offset": "+10:00"}, None),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_capture_time(form, tags, taken):
    config = DecodeConfig(height=8, width=8, timezone="Europe/Berlin")
    decoded = decode_unit(table(encoded(BASE, form, exif=with_time(**tags))), config)
    assert decoded.table["captured_at"].to_pylist() == [taken]
    assert decoded.table["error"].to_pylist() == [None]


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValueError, match="timezone must be .* got 'Mars/Olympus'"):
        DecodeConfig(height=8, width=8, timezone="Mars/Olympus")


# --- row 1 of design.md's table ---

JPEG, PNG = encoded(BASE, "JPEG"), encoded(BASE)
BMP, TIFF = encoded(BASE, "BMP"), encoded(BASE, "TIFF")
LZW = encoded(BASE, "TIFF", compression="tiff_lzw")


def damaged_scan(at):
    """A JPEG with a marker in its pixel data that does not belong there; Pillow alone decodes it without a word."""
    return JPEG[:at] + b"\xff\xd3" + JPEG[at:]


def lab():
    profile = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(BASE, profile)


def bomb_png(width, height):
    content = bytearray(encoded(Image.new("L", (8, 8))))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


BAD = {
    "empty": [b""],
    "not_an_image": [b"\0" * 1000, b"hello world, this is text", random.Random(0).randbytes(5000), b"PK\x03\x04 a zip file"],
    "unsupported_format": [
        encoded(BASE, "GIF"),
        encoded(BASE, "WEBP"),
        b"%PDF-1.7 ...",
        b"<svg xmlns=''/>",
        b"%!PS-Adobe-3.0 EPSF",
        encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        encoded(Image.fromarray(np.full((9, 9), np.inf, np.float32)), "TIFF"),
        encoded(BASE.convert("I"), "TIFF"),
        encoded(lab(), "TIFF"),
    ],
    "truncated": [content[: len(content) // 2] for content in (JPEG, PNG, BMP, TIFF)] + [JPEG[:-400], PNG[:-20]],
    "corrupt": [
        *(damaged_scan(at) for at in (900, 1100, 1300)),
        *(PNG[:8] + b"\xff" * 20 + PNG[28:], PNG[:16] + b"\0" * 8 + PNG[24:]),
        *(BMP[:28] + b"\x4d" + BMP[29:], TIFF[:4] + b"\xff" * 4 + TIFF[8:]),
        *(JPEG[:3], PNG[:8], BMP[:2], TIFF[:4]),
    ],
    "too_many_pixels": [bomb_png(60_000, 60_000), bomb_png(1 << 30, 1 << 30), encoded(Image.new("1", (20_000, 20_000)))],
    "several_images": [
        encoded(BASE, "TIFF", save_all=True, append_images=[BASE]),
        encoded(BASE, "PNG", save_all=True, append_images=[BASE.rotate(9)]),
        encoded(BASE, "TIFF", save_all=True, append_images=[BASE] * 3, compression="tiff_lzw"),
    ],
}


@pytest.mark.parametrize(("error", "content"), [(error, content) for error, contents in BAD.items() for content in contents])
def test_row_1_a_bad_file_has_a_reason(error, content):
    assert fault(content) == error


def test_row_1_one_bad_file_costs_one_row():
    bad = [(error, content) for error, contents in BAD.items() for content in contents]
    contents = [part for _, content in bad for part in (PNG, content)]
    contents[4] = Fault("gone", "it is gone")
    decoded = decode_unit(table(*contents), CONFIG)
    assert decoded.table.schema == SCHEMA and decoded.table.num_rows == len(contents)
    rows = decoded.table.to_pylist()
    assert [row["error"] for row in rows[1::2]] == [error for error, _ in bad]
    assert all(row["stage"] == "decode" and row["message"] for row in rows[1::2])
    assert (rows[4]["stage"], rows[4]["error"], rows[4]["width"]) == ("read", "gone", None)
    good = [number for number in range(0, len(contents), 2) if number != 4]
    assert all(rows[number]["error"] is None and rows[number]["width"] == 90 for number in good)
    assert (decoded.pixels[good] == reference(BASE)).all()
    assert not decoded.pixels[[number for number in range(len(contents)) if number not in good]].any()


def unusual_png(width, height, depth=8, colour=0, body=b"", *, before=b""):
    """A PNG that no program would write, with right checksums."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def unusual_tiff(**tags):
    """A grey TIFF, 10 x 10 unless `tags` (numbers prefixed by _) say otherwise."""
    known = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 273: 400, 278: 10, 279: 100}
    known |= {int(tag[1:]): number for tag, number in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in sorted(known.items()))
    return (b"II*\0" + struct.pack("<IH", 8, len(known)) + entries + bytes(4)).ljust(600, b"\0")


@pytest.mark.parametrize(
    ("error", "content"),
    [
        *(("corrupt", unusual_png(*size)) for size in ((0, 5), (5, 0), (0, 0))),
        ("corrupt", unusual_tiff(_256=0)),
        *(("too_many_pixels", unusual_tiff(_256=1 << 31, _257=height)) for height in (1, 1 << 31)),
        ("too_much_memory", unusual_tiff(_259=5, _322=65520, _323=65520, _324=400, _325=25)),
        ("corrupt", unusual_png(4, 4, body=bytes(20), before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
        ("corrupt", unusual_png(4, 4, body=bytes(20), before=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
        ("truncated", unusual_png(4000, 4000, body=bytes(20))),
        ("too_many_pixels", encoded(Image.new("1", (30_000, 30_000)))),
    ],
)
def test_sizes_that_no_picture_has(error, content):
    assert fault(content) == error


@pytest.mark.parametrize("resize", ["squash", "pad", "tile"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (30_000, 1), (1, 30_000)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
def test_the_smallest_and_the_thinnest(resize, size, form):
    found = decode_image(encoded(Image.new("RGB", size, (9, 9, 9)), form), CONFIG.model_copy(update={"resize": resize}))
    assert (found.width, found.height) == size and np.isfinite([found.brightness, found.contrast, found.sharpness]).all()
    assert np.abs(found.pixels.astype(int) - 9).max() <= 1


TENTHS = {"JPEG": JPEG, "PNG": PNG, "BMP": BMP, "TIFF": TIFF, "TIFF-LZW": LZW}


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("form", TENTHS)
def test_truncated_at_every_tenth(form, tenth):
    whole = TENTHS[form]
    wanted = {"empty"} if tenth == 0 else {"truncated", "corrupt"}  # corrupt: the cut took what says where the picture is
    assert fault(whole[: len(whole) * tenth // 10]) in wanted
    if form in ("JPEG", "PNG") and tenth > 3:
        assert fault(whole[: len(whole) * tenth // 10]) == "truncated"


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("/tmp/flowscore-test-executed",)


@pytest.mark.parametrize(
    ("error", "content"),
    [
        ("not_an_image", pickle.dumps(Bomb())),
        ("not_an_image", b"\x93NUMPY\x01\0" + pickle.dumps(Bomb())),
        ("not_an_image", b"!!python/object/apply:os.mkdir ['/tmp/flowscore-test-executed']"),
        ("not_an_image", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ("unsupported_format", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("unsupported_format", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/flowscore-test-executed) (w) file\n"),
        ("unsupported_format", b"%PDF-1.7\n1 0 obj << /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >>"),
        ("not_an_image", b"push graphic-context\nimage over 0,0 0,0 'https://example.com/x'\n"),
        ("not_an_image", b"#!/bin/sh\nmkdir /tmp/flowscore-test-executed\n"),
        ("unsupported_format", encoded(BASE, "GIF", save_all=True, append_images=[BASE.rotate(9)])),
        ("unsupported_format", encoded(BASE, "WEBP", save_all=True, append_images=[BASE.rotate(9)])),
    ],
)
def test_nothing_in_a_file_is_executed_or_fetched(error, content, monkeypatch):
    def refuse(*_arguments, **_named):
        raise AssertionError("not allowed")

    for name in ("pickle.loads", "pickle.load", "subprocess.Popen.__init__", "socket.socket.connect", "os.system"):
        monkeypatch.setattr(name, refuse)
    assert fault(content) == error
    assert not os.path.exists("/tmp/flowscore-test-executed")


def test_only_four_formats_are_ever_opened(monkeypatch):
    """Pillow knows 40, among them one that starts Ghostscript; a prefix decides which one a file is handed to."""
    asked = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda file, formats: (asked.append(tuple(formats)), real(file, formats=formats))[1])
    for content in (JPEG, PNG, BMP, TIFF):
        decode_image(content, CONFIG)
    assert asked == [("JPEG",), ("PNG",), ("BMP",), ("TIFF",)]


def test_a_library_that_quotes_the_file_does_not_fill_the_table(monkeypatch):
    def fail(*_arguments, **_named):
        raise ValueError("unexpected " + "x" * 100_000)

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(Undecodable) as caught:
        decode_image(PNG, CONFIG)
    assert caught.value.error == "corrupt" and len(str(caught.value)) < 400


def test_an_allocation_that_fails_is_a_fault_of_its_own(monkeypatch):
    def fail(*_arguments, **_named):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    assert decode_unit(table(PNG, JPEG), CONFIG).table["error"].to_pylist() == ["too_much_memory"] * 2


def test_half_an_image_is_never_filled_up():
    """Other libraries set Pillow's flag for truncated files; a half grey picture would score as a defect."""
    for cut in range(300, len(JPEG) - 2, 97):
        assert fault(JPEG[:cut]) in ("truncated", "corrupt")
    for cut in range(100, len(PNG) - 12, 97):
        assert fault(PNG[:cut]) in ("truncated", "corrupt")


def test_no_flipped_bit_of_a_png_goes_unnoticed():
    for at in range(8, len(PNG) - 12, 13):
        assert fault(PNG[:at] + bytes([PNG[at] ^ 16]) + PNG[at + 1 :]) in ("corrupt", "truncated", "too_many_pixels"), at


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_never_escapes(seed):
    rng = random.Random(seed)
    for _ in range(60):
        content = bytearray(rng.choice([JPEG, PNG, BMP, TIFF, LZW]))
        for _ in range(rng.choice((1, 2, 5, 20))):
            content[rng.randrange(min(len(content), rng.choice((60, 300, 1 << 30))))] = rng.randrange(256)
        try:
            picture = decode_image(bytes(content), DecodeConfig(height=16, width=16, max_image_pixels=1_000_000))
        except Undecodable as found:
            assert found.error in {*BAD, "wholly_transparent"} and " at 0x" not in str(found)
        else:
            assert picture.pixels.shape == (16, 16, 3)


def test_an_empty_unit():
    decoded = decode_unit(table(), CONFIG)
    assert decoded.pixels.shape == (0, 48, 64, 3) and decoded.table.num_rows == 0
    assert isinstance(decoded.table, pa.Table)


TILES = DecodeConfig(height=16, width=32, resize="tile")


def test_tile_keeps_the_resolution_or_magnifies_by_the_scale():
    assert (decode_image(encoded(BASE), TILES).pixels == np.asarray(BASE)).all()
    for scale, size in ((0.5, (45, 30)), (1.5, (135, 90)), (0.001, (1, 1))):
        config = TILES.model_copy(update={"scale": scale})
        decoded = decode_image(encoded(BASE), config)
        assert (decoded.pixels == np.asarray(BASE.resize(size, FILTER))).all()
        assert (decoded.width, decoded.height) == BASE.size and tiled_size(BASE.size, config) == size
    assert content_box((900, 600), TILES) == (0, 0, 32, 16)  # the map shows all of the image and nothing else


def test_tile_turns_the_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(encoded(BASE, "PNG", exif=exif), TILES.model_copy(update={"scale": 0.5}))
    assert decoded.pixels.shape == (45, 30, 3) and (decoded.width, decoded.height) == (60, 90)


def test_an_image_that_is_too_large_after_magnifying_is_refused():
    config = TILES.model_copy(update={"scale": 2.0, "max_image_pixels": 90 * 60 * 3})
    assert fault(encoded(BASE), config) == "too_many_pixels"
    assert decode_image(encoded(BASE), config.model_copy(update={"scale": 1.0})).width == 90


def test_tiles_are_the_image_and_its_mirror_image_beyond_it():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    tiles = np.empty((2, 16, 32, 3), np.uint8)
    cut_tiles(pixels, [(2, 5), (8, 16)], (16, 32), tiles)
    assert (tiles[0] == pixels[2:18, 5:37]).all()
    assert (tiles[1][:12, :24] == pixels[8:, 16:]).all()
    assert (tiles[1][12:, :24] == pixels[:-5:-1, 16:]).all() and (tiles[1][:12, 24:] == pixels[8:, :-9:-1]).all()
    cut_tiles(pixels[:3, :5], [(0, 0)], (16, 32), tiles[:1])
    assert (tiles[0, :6, :10] == np.pad(pixels[:3, :5], ((0, 3), (0, 5), (0, 0)), mode="symmetric")).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (64, 33), (65, 7)])
def test_statistics_of_strips_are_those_of_the_whole(shape, monkeypatch):
    grey = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    whole = grey_statistics(grey)
    for pixels in (1, 40, 100, 1000):
        monkeypatch.setattr(decode, "STRIP_PIXELS", pixels)
        assert grey_statistics(grey) == whole


def of_region(mask: np.ndarray, **fields) -> DecodeConfig:
    return DecodeConfig(**({"height": 40, "width": 48, "roi": RegionOfInterest.of(mask)} | fields))


def test_statistics_are_of_the_pixels_that_count():
    grey = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    counted = ndimage.binary_dilation(np.random.default_rng(1).random(grey.shape) < 0.01, iterations=4)
    edges = ndimage.convolve(grey.astype(np.int64), [[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    around = ndimage.binary_erosion(counted)
    brightness, contrast, sharpness = grey_statistics(grey, counted)
    assert (brightness, contrast) == (pytest.approx(grey[counted].mean()), pytest.approx(grey[counted].std()))
    assert sharpness == pytest.approx(edges[around].var())
    assert grey_statistics(grey, np.ones(grey.shape, bool)) == grey_statistics(grey)
    assert grey_statistics(grey, np.eye(60, 50, dtype=bool))[2] == 0.0  # no pixel has neighbours that count


def test_strips_of_pixels_that_count_are_measured_as_the_whole(monkeypatch):
    grey = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    counted = np.random.default_rng(1).random(grey.shape) < 0.9
    whole = grey_statistics(grey, counted)
    monkeypatch.setattr(decode, "STRIP_PIXELS", 350)
    assert grey_statistics(grey, counted) == whole


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("size", [(20, 30), (64, 96), (900, 1350)])  # enlarged, reduced, and so large that torch resizes it
def test_what_lies_outside_the_region_of_interest_changes_nothing(size, resize):
    rng = np.random.default_rng(0)
    mask = np.zeros(size, bool)
    mask[size[0] // 5 : size[0] // 2, size[1] // 4 : size[1] // 5 * 4] = True
    for shape in (size, (*size, 3)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        other = np.where(mask if len(shape) == 2 else mask[..., None], image, rng.integers(0, 256, shape, dtype=np.uint8))
        one, two = (decode_image(encoded(Image.fromarray(each)), of_region(mask, resize=resize)) for each in (image, other))
        assert (one.pixels == two.pixels).all() and one._replace(pixels=None) == two._replace(pixels=None)
        whole = [
            decode_image(encoded(Image.fromarray(each)), DecodeConfig(height=40, width=48, resize=resize))
            for each in (image, other)
        ]
        assert (whole[0].pixels != whole[1].pixels).any() and whole[0].sharpness != whole[1].sharpness
        deep = ndimage.binary_erosion(inside(of_region(mask, resize=resize)), iterations=3)
        assert deep.any() and (one.pixels == whole[0].pixels)[deep].all()


def test_the_region_lies_on_the_upright_image():
    mask = np.zeros((40, 60), bool)
    mask[:10] = True
    upright = np.full((40, 60), 250, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn counter-clockwise
    out = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(out, "PNG", exif=exif)
    found = decode_image(out.getvalue(), of_region(mask, height=40, width=60))
    assert (found.pixels[:10] == 250).all() and (found.pixels[10:] == FILL).all()
    assert (found.brightness, found.contrast, found.sharpness) == (250, 0, 0)


def test_an_image_of_another_shape_than_the_region_is_a_fault():
    config = of_region(np.eye(40, 60, dtype=bool))
    assert decode_image(encoded(Image.new("L", (600, 401))), config).width == 600
    with pytest.raises(Undecodable, match="60 x 50 pixels; the mask of what counts is for the shape of 60 x 40") as fault:
        decode_image(encoded(Image.new("L", (60, 50))), config)
    assert fault.value.error == "other_shape"
