import io

import numpy as np
import pytest
from fake_run import published, run_id, scored
from PIL import Image

from models.maps.quantise import quantise
from models.roi.region import RegionOfInterest
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.report.pictures import (
    BOX,
    BOXES_DRAWN,
    Box,
    ColourScale,
    Shown,
    StoredMap,
    colour_bar,
    colour_scale,
    colours,
    contact_sheet,
    heat_map,
    outlined,
    picture,
)
from pipeline.tables.query import open_tables

CONFIG = DecodeConfig(height=64, width=64, resize="pad")
SCALE = ColourScale(0.0, 10.0, "for a test")


def stored(values):
    cells, scale, offset = quantise(np.asarray(values, np.float32))
    return StoredMap(cells, *np.shape(values), scale, offset)


def jpeg(width, height):
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 150)).save(sink, "JPEG")
    return sink.getvalue()


def test_picture_keeps_the_aspect():
    assert picture(jpeg(300, 100), (300, 100), CONFIG, 150).size == (150, 50)
    assert picture(jpeg(30, 10), (30, 10), CONFIG, 150).size == (60, 20), "small ones are enlarged at most twice"
    with pytest.raises(Undecodable):
        picture(b"no image", (3, 3), CONFIG, 150)


def test_heat_map_lies_where_the_map_is_high():
    values = np.zeros((8, 8))
    values[:, 6:] = 10.0
    background = Image.new("RGB", (80, 80), (200, 200, 200))
    pixels = np.asarray(heat_map(background, stored(values), (80, 80), CONFIG, SCALE)).astype(int)
    red_over_blue = pixels[..., 0] - pixels[..., 2]
    assert red_over_blue[:, 65:].min() > 40 and abs(red_over_blue[:, :50]).max() == 0
    assert pixels[40, 10].tolist() == [124, 124, 124], "what is low lets the dimmed picture through"


def test_heat_map_of_a_padded_image_leaves_the_padding_out():
    """A 100 x 50 image takes rows 16 to 48 of the 64 x 64 input, so rows 2 to 6 of an 8 x 8 map."""
    values = np.zeros((8, 8))
    values[:2], values[6:] = 10.0, 10.0
    background = Image.new("RGB", (100, 50))
    inside = np.asarray(heat_map(background, stored(values), (100, 50), CONFIG, SCALE))
    assert inside[10:40].max() == 0
    squashed = CONFIG.model_copy(update={"resize": "squash"})
    assert np.asarray(heat_map(background, stored(values), (100, 50), squashed, SCALE))[:8].max() > 100


def test_boxes_are_drawn_around_regions_and_hide_nothing_inside():
    plain = Image.new("RGB", (100, 50), (90, 120, 150))
    drawn = np.asarray(outlined(plain, [Box(100, 100, 300, 200)], (1000, 500)))
    assert (drawn[10:20, 10:30] == (90, 120, 150)).all(), "the region itself"
    around = [drawn[9, 10:30], drawn[20, 10:30], drawn[10:20, 9], drawn[10:20, 30]]
    assert all((line == BOX).all() for line in around)
    assert (drawn[:6] == (90, 120, 150)).all() and (drawn[24:] == (90, 120, 150)).all()
    assert (np.asarray(plain) == (90, 120, 150)).all(), "the picture given stays as it is"
    whole = np.asarray(outlined(plain, [Box(0, 0, 1000, 500)], (1000, 500)))
    assert (whole[0] == BOX).all() and (whole[:, -1] == BOX).all(), "at the edge of the picture it lies inside"
    tiny = [Box(i * 50, 0, i * 50 + 1, 1) for i in range(BOXES_DRAWN + 5)]
    few = np.asarray(outlined(plain, tiny, (1000, 500)))
    assert (few == BOX).all(axis=-1).any(axis=0).nonzero()[0].max() < 5 * BOXES_DRAWN


def test_scale_is_the_models_not_the_images(tmp_path):
    published(tmp_path, [("none", [scored(f"i{i}", float(i)) for i in range(20)])])
    connection = open_tables(str(tmp_path)).connection
    scale = colour_scale(connection, "tiles", run_id(), CONFIG)
    values = [StoredMap(*row).values() for row in connection.sql(
        "select map, map_height, map_width, map_scale, map_offset from maps").fetchall()]  # fmt: skip
    assert (scale.low, scale.high) == pytest.approx(tuple(np.percentile(values, [50, 99.9])))
    assert "not calibrated" in scale.basis
    assert colour_scale(connection, "tiles", "another", CONFIG) is None

    height, width = values[0].shape
    counted = np.arange(height * width).reshape(height, width) % 3 == 0
    some = DecodeConfig(height=height, width=width, roi=RegionOfInterest.of(counted))
    scale = colour_scale(connection, "tiles", run_id(), some)
    of_these = [cells[counted] for cells in values]
    assert (scale.low, scale.high) == pytest.approx(tuple(np.percentile(of_these, [50, 99.9])))


def test_colours_grow_lighter():
    ramp = colours(np.linspace(0, 1, 64))
    lightness = ramp @ [0.2126, 0.7152, 0.0722]
    assert ramp.shape == (64, 3) and ramp.min() >= 0 and ramp.max() <= 255
    assert (np.diff(lightness) > 0).all()
    flat = ColourScale(2.0, 2.0, "").share(np.array([1.0, 2.0, 9.0]))
    assert flat.tolist() == [0.0, 0.0, 1.0]


def test_contact_sheet_holds_every_image():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    images = [Shown(i, 1.0 / i, "line · lot · a very long name " * 5, image, image) for i in range(1, 6)]
    images.append(Shown(6, 0.1, "gone.jpg", None, None, "the stored object no longer exists"))
    sheet = contact_sheet(images, "title", "subtitle", None, columns=3, side_px=60)
    red = (np.asarray(sheet) == (255, 0, 0)).all(axis=-1).sum()
    assert red == 5 * 2 * 40 * 20
    assert sheet.width == 3 * (124 + 18) + 18


def test_contact_sheet_has_a_legend_that_fits():
    """A sheet of one image is as wide as what is said of its colours."""
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    images = [Shown(1, 1.0, "line", image, image)]
    bare = contact_sheet(images, "title", "subtitle", None, side_px=60)
    short = contact_sheet(images, "title", "subtitle", SCALE, side_px=60)
    said = contact_sheet(
        images, "title", "subtitle", ColourScale(0.0, 10.0, "as many words as a basis may have " * 3), side_px=60
    )
    assert short.height > bare.height and said.width > short.width > bare.width
    pixels, bar = np.asarray(short), np.asarray(colour_bar(160, 12))
    places = [x for x in range(short.width - 160) if (pixels[72:84, x : x + 160] == bar).all()]
    assert len(places) == 1 and (pixels[60:90, places[0] + 170 :] < 200).any(), "numbers and words stand beside the bar"
    assert (pixels[60:90, short.width - 10 :] == 255).all()


def test_colour_bar_has_the_colours_from_left_to_right():
    bar = np.asarray(colour_bar(3, 2))
    assert bar.shape == (2, 3, 3) and bar[0, 0].tolist() == [56, 16, 100] and bar[1, 2].tolist() == [252, 250, 160]
