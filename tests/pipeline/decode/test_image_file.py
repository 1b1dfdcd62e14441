"""Every picture of tests/format_cases gives the pixels of an independent reader, or is refused by the name of its kind."""

import io

import numpy as np
import pytest
import tifffile
from format_cases import tiff_grid
from format_cases.all_cases import MODULES, all_cases, cases
from format_cases.case import HEIGHT, WIDTH, Case, samples, shown
from PIL import Image

from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import decode_image
from pipeline.decode.image_file import stores_16bit


def fault_of(case: Case) -> str | None:
    """What is wrong with what the product makes of the file, None if nothing."""
    height, width = (HEIGHT, WIDTH) if case.pixels is None else case.pixels.shape[:2]
    try:
        picture = decode_image(case.content, DecodeConfig(height=height, width=width, white_level=case.white_level))
    except Undecodable as error:
        if case.refused is None:
            return f"refused: {error}"
        named = case.refused.lower() in str(error).lower() and error.error == case.error
        return None if named else f"refused as {error.error}: {error}"
    if case.refused is not None:
        return "read, though it should be refused"
    assert case.pixels is not None
    furthest = np.abs(picture.pixels.astype(int) - case.pixels).max()
    if furthest > case.within or (picture.width, picture.height) != (width, height):
        return f"{furthest} levels off at {picture.width} x {picture.height}"
    return None


@pytest.mark.parametrize("part", [module.__name__.rpartition(".")[2] for module in MODULES])
def test_every_kind_is_read_right_or_refused_by_name(part: str) -> None:
    found = {case.name: fault_of(case) for case in cases()[part]}
    assert len(found) > 20 and {name: fault for name, fault in found.items() if fault is not None} == {}


def test_the_cases_are_many_and_no_two_are_the_same_file() -> None:
    contents = [case.content for case in all_cases()]
    assert len(contents) > 1500 and len(set(contents)) > 1450  # with one sample a pixel some packings give the same file


@pytest.mark.parametrize("layout", ["strips", "tiles", "planar strips", "planar tiles"])
def test_the_grid_holds_what_tifffile_reads_in_it(layout: str) -> None:
    """The pixels that are wanted are those of the samples; this is that the files hold the samples."""
    compared = 0
    for found in tiff_grid.kinds():
        if layout.startswith("planar") and found.values.shape[2] == 1:
            continue
        for packed in tiff_grid.PACKED:
            for order in tiff_grid.ORDERS:
                stored = tifffile.imread(io.BytesIO(tiff_grid.written(found, layout, packed, order)))
                stored = np.moveaxis(stored, 0, -1) if layout.startswith("planar") else stored
                assert (stored.reshape(found.values.shape) == found.values).all(), (found.kind, packed, order)
                compared += 1
    assert compared >= 200


@pytest.mark.parametrize("side", ["PNG", "BMP", "TIFF"])
def test_a_picture_with_one_opaque_pixel_is_a_picture(side: str) -> None:
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 0))
    picture.putpixel((3, 2), (200, 100, 50, 255))
    sink = io.BytesIO()
    picture.save(sink, side)
    pixels = decode_image(sink.getvalue(), DecodeConfig(height=HEIGHT, width=WIDTH)).pixels
    assert pixels[2, 3].tolist() == [200, 100, 50]
    assert pixels.sum() == 350 or side == "BMP"  # Pillow's BMP of 32 bits has no alpha


def test_white_level_scales_grey_and_refuses_the_rest() -> None:
    config = DecodeConfig(height=HEIGHT, width=WIDTH, white_level=4095)
    for case in all_cases():
        if case.kind == "16-bit grey" and case.layout in ("strips", "rows") and case.compression in ("none", "deflate"):
            assert (decode_image(case.content, config).pixels == shown(samples(1, 16), 16, 4095)).all(), case.name
        if case.kind in ("16-bit RGB", "16-bit grey and alpha", "16-bit CMYK") and case.refused is None:
            with pytest.raises(Undecodable, match="not scaled to white_level 4095"):
                decode_image(case.content, config)
        if (
            case.kind == "8-bit RGB" and case.pixels is not None and case.format == "TIFF"
        ):  # an offset with 16 in it is no depth
            assert fault_of(case._replace(white_level=4095)) is None, case.name
        if case.kind == "12-bit grey, packed" and case.pixels is not None:
            assert fault_of(case._replace(white_level=4095)) is None, case.name


def test_the_depth_of_a_file_is_in_its_header() -> None:
    for case in all_cases():
        if case.refused is None:
            deep = case.kind.startswith("16-bit") and case.format in ("PNG", "TIFF")
            assert stores_16bit(case.content) == deep, case.name


@pytest.mark.parametrize("white_level", [1023, 4095, 16383])
def test_white_is_zero_is_inverted_within_the_white_level(white_level: int) -> None:
    """A camera of 10, 12 or 14 bits whose zero is white: inverting all 16 bits would make everything white."""
    dark = np.linspace(0, white_level, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    sink = io.BytesIO()
    tifffile.imwrite(sink, dark, photometric="miniswhite")
    found = decode_image(sink.getvalue(), DecodeConfig(height=HEIGHT, width=WIDTH, white_level=white_level)).pixels[..., 0]
    assert np.abs(found - 255 * (1 - dark / white_level)).max() <= 0.51
