"""All pictures of a method have one colour scale, whatever each map's own range is."""

from pathlib import Path

import numpy as np
from PIL import Image

from jobs.pages.explanation_picture import FRAME_PX, GAP, HEAD_PX, STRIP_PX, WARNING, Notice, draw
from jobs.pages.explanation_pictures import ExplanationPictures
from pipeline.report.pictures import ColourScale

PIXELS = np.full((320, 320, 3), 128, np.uint8)  # drawn pixel by pixel
TITLE = ["name", "method", "figures"]


def overlay(sheet: Image.Image) -> np.ndarray:
    """(320, 320, 3): the map over the picture."""
    left = 2 * GAP + 320
    return np.asarray(sheet)[HEAD_PX : HEAD_PX + 320, left : left + 320]


def flat(value: float) -> np.ndarray:
    return np.full((320, 320), value, np.float32)


def test_equal_values_have_equal_colours_in_all_pictures_of_a_method(tmp_path: Path) -> None:
    low, high = flat(1.0), flat(1.0)
    low[:160], high[:160] = 0.0, 4.0
    (tmp_path / "scratch").mkdir()
    pictures = ExplanationPictures(tmp_path / "scratch", {})
    for name, found in (("low.png", low), ("high.png", high)):
        pictures.add("gradient", name, PIXELS, found, TITLE)
    pictures.add("grad_cam", "other.png", PIXELS, low, TITLE)
    scales = pictures.draw(tmp_path)
    assert scales["gradient"] == ColourScale(0.0, 4.0, "lowest to 99.8 % of the 2 pictures by gradient")
    assert scales["grad_cam"] == ColourScale(0.0, 1.0, "lowest to 99.8 % of the picture by grad_cam")
    shown = {name: overlay(Image.open(tmp_path / f"{name}.png")) for name in ("low", "high", "other")}
    assert (shown["low"][200] == shown["high"][200]).all(), "both are 1.0 there"
    assert (shown["low"][200] != shown["other"][200]).any(), "the highest value of its method"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_known_scale_is_used_whatever_the_maps_are(tmp_path: Path) -> None:
    known = ColourScale(0.5, 2.0, "50 to 99.9 % of good images")
    pictures = ExplanationPictures(tmp_path, {"anomaly_map": known})
    pictures.add("anomaly_map", "a.png", PIXELS, flat(9.0), TITLE)
    assert pictures.draw(tmp_path) == {"anomaly_map": known}
    expected = draw(PIXELS, flat(2.0), TITLE, known)
    assert (overlay(Image.open(tmp_path / "a.png")) == overlay(expected)).all(), "above the scale is its last colour"


def test_maps_of_one_value_are_drawn(tmp_path: Path) -> None:
    pictures = ExplanationPictures(tmp_path, {})
    pictures.add("gradient", "a.png", PIXELS, flat(3.0), TITLE)
    scale = pictures.draw(tmp_path)["gradient"]
    assert scale.low == scale.high == 3.0 and (tmp_path / "a.png").is_file()


def test_a_warning_stands_on_the_map_itself_and_nowhere_else(tmp_path: Path) -> None:
    pictures = ExplanationPictures(tmp_path, {})
    pictures.add("gradient", "plain.png", PIXELS, flat(3.0), TITLE)
    pictures.add(
        "gradient", "warned.png", PIXELS, flat(3.0), TITLE, Notice("WORSE THAN RANDOM ORDER: do not trust this map", True)
    )
    pictures.draw(tmp_path)
    plain, warned = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "warned"))
    differ = (np.asarray(plain) != np.asarray(warned)).any(axis=2)
    (down, across) = np.nonzero(differ)
    left = 2 * GAP + 320
    assert (down.min(), down.max()) == (HEAD_PX, HEAD_PX + 319) and (across.min(), across.max()) == (left, left + 319)
    strip = overlay(warned)[:STRIP_PX]
    assert (strip == WARNING).all(axis=2).any(axis=1).all() and (strip[..., 1] > 128).sum() > 200, "words"
    assert (strip[:, :FRAME_PX] == WARNING).all() and (strip[:, -FRAME_PX:] == WARNING).all(), "the words fit"
    assert not differ[HEAD_PX + STRIP_PX : HEAD_PX + 320 - FRAME_PX, left + FRAME_PX : left + 320 - FRAME_PX].any()


def test_the_sheet_is_as_wide_as_its_longest_line(tmp_path: Path) -> None:
    scale = ColourScale(0.0, 1.0, "of the picture")
    short, long = (draw(PIXELS, flat(0.5), ["name", "method", "f" * count], scale) for count in (10, 300))
    assert long.width > short.width and long.height == short.height
    assert (np.asarray(long)[:HEAD_PX, -8:] == 255).all(), "no letter is cut off"
    assert (np.asarray(long)[HEAD_PX:, : short.width] == np.asarray(short)[HEAD_PX:]).all()
