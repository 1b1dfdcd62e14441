"""A damaged image gives pixels or a known error, whatever it does to the decoder's process; other images are decoded."""

import itertools
import math
from pathlib import Path

import pytest
from dangerous_decoders import table
from hypothesis import given
from hypothesis import strategies as st
from image_files import FORMATS
from mutations import fuzz, mutated

from models.maps.tiling import Tiling
from pipeline.decode import process as decode_process
from pipeline.decode.config import DecodeConfig
from pipeline.decode.process import DECODE, decode_in_child
from pipeline.decode.tiles import InChild, TiledUnit
from pipeline.decode.unit import decode_unit

PIXELS = 1 << 20
TIMEOUT_S = 15.0
MEMORY_KIB = 600 << 10  # enough for the decoder's libraries and a multiple of what PIXELS need
CONFIGS = [DecodeConfig(height=24, width=32, resize=resize, max_image_pixels=PIXELS) for resize in ("squash", "pad")]
TILES = DecodeConfig(height=24, width=32, resize="tile", scale=0.7, max_image_pixels=PIXELS)
ERRORS = {
    *("empty", "not_an_image", "unsupported_format", "truncated", "corrupt", "too_many_pixels", "several_images"),
    *("unsupported_mode", "wholly_transparent", "decoder_crashed"),
}
WHOLE = [content for contents, _, _ in FORMATS for content in contents]
damaged = st.sampled_from(FORMATS).flatmap(
    lambda form: (mutated(form[0], marks=form[1]) | mutated(WHOLE, 2, form[1])).map(form[2]),
)


def check(row: dict) -> None:
    if row["error"] is None:
        assert row["width"] > 0 and row["height"] > 0 and row["width"] * row["height"] <= PIXELS
        assert all(math.isfinite(row[name]) and row[name] >= 0 for name in ("brightness", "contrast", "sharpness"))
        return
    assert row["error"] in ERRORS and row["stage"] == "decode", row
    if row["error"] == "decoder_crashed":  # only a native library may; a Python exception is our fault
        assert "(SIG" in row["message"], row["message"]


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def test_what_is_damaged_here_can_be_decoded_as_long_as_it_is_whole():
    errors = set(decode_unit(table(WHOLE), CONFIGS[0]).table["error"].to_pylist())
    assert errors == {None, "unsupported_format"}  # float TIFF


@pytest.fixture(scope="module", autouse=True)
def fresh():
    """The child's peak of memory is that of these images: one that other tests have used is ended first."""
    if found := decode_process._decoders.pop(DECODE, None):
        found.end()


@fuzz(150)
@given(st.lists(damaged, min_size=4, max_size=8), st.sampled_from(CONFIGS), st.sampled_from(WHOLE[:2]))
def test_a_unit_with_damaged_images(contents, config, good):
    unit = table([good, *contents, good])
    found = decode_in_child(unit, config, TIMEOUT_S)
    rows = found.table.to_pylist()
    assert found.pixels.shape == (unit.num_rows, config.height, config.width, 3) and len(rows) == unit.num_rows
    for row, pixels in zip(rows, found.pixels, strict=True):
        check(row)
        assert row["error"] is None or not pixels.any()
    wanted = decode_unit(table([good]), config).pixels[0]
    assert (found.pixels[0] == wanted).all() and (found.pixels[-1] == wanted).all()
    assert peak_kib(decode_process._decoders[DECODE]._process.pid) < MEMORY_KIB


@pytest.fixture(scope="module")
def child():
    decoder = InChild(TILES, TIMEOUT_S)
    yield decoder
    decoder.close()


@fuzz(150)
@given(damaged)
def test_a_damaged_image_that_is_cut_into_tiles(child, content):
    unit = TiledUnit(table([content]), TILES, Tiling((TILES.height, TILES.width), (3, 4)), 4, [child])
    for batch in itertools.islice(unit.batches(), 50):
        assert batch.pixels.shape[1:] == (TILES.height, TILES.width, 3) and len(batch.pixels) <= 4
    (row,) = unit.rows().to_pylist()
    check(row)
