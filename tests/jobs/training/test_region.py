"""Masks of --roi as people draw them, and what is said of those that say nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.command.errors import UsageError
from jobs.training.region import read_region

MASK = np.zeros((30, 40), bool)
MASK[5:20, 8:30] = True


def saved(path: Path, levels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(levels)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_any_pixel_that_is_not_0_counts_in_any_format(tmp_path: Path) -> None:
    paths = [
        saved(tmp_path / "one.png", MASK.astype(np.uint8)),
        saved(tmp_path / "white.bmp", MASK * np.uint8(255)),
        saved(tmp_path / "bits.png", MASK),
        saved(tmp_path / "deep.png", MASK.astype(np.uint16)),
        saved(tmp_path / "deep.tif", MASK.astype(np.uint16)),
        saved(tmp_path / "blue.png", (MASK[..., None] * np.uint8([0, 0, 9])).astype(np.uint8)),
        saved(tmp_path / "palette.png", MASK * np.uint8(255), "P"),
        saved(tmp_path / "alpha.png", np.dstack([np.full((30, 40, 3), 200, np.uint8), MASK * np.uint8(255)])),
    ]
    for path in paths:
        assert (read_region(path).mask() == MASK).all(), path


def test_a_mask_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(MASK * np.uint8(255)).save(tmp_path / "turned.png", exif=exif)
    assert (read_region(tmp_path / "turned.png").mask() == np.rot90(MASK, -1)).all()


@pytest.mark.parametrize(
    ("name", "levels", "said"),
    [
        ("black.png", np.zeros((30, 40), np.uint8), "with pixels that are not 0; got .*nothing of an image would count"),
        ("white.png", np.ones((30, 40), np.uint8), "with pixels that are 0; got .*nothing would be left out"),
        ("lossy.jpg", MASK * np.uint8(255), "of a format that loses nothing; got .*save it as PNG"),
        ("ragged.png", np.random.default_rng(0).integers(0, 2, (1500, 1500), np.uint8), "of plain areas; got "),
    ],
)
def test_a_mask_that_says_nothing_is_refused(tmp_path: Path, name: str, levels: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=f"^--roi must be a mask image {said}"):
        read_region(saved(tmp_path / name, levels))


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("seven tiles")
    whole = saved(tmp_path / "whole.png", MASK).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "cut.png"):
        with pytest.raises(UsageError, match=r"^--roi must be a mask image that can be read; got .*Write it again as PNG"):
            read_region(tmp_path / name)
    for place in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UsageError, match=r"^--roi must be a mask image; got .*It cannot be read"):
            read_region(place)
