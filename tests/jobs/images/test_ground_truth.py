"""Masks on the upright pixels of their images, and what is counted; Pillow's `exif_transpose` says what is right."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from labelled_tree import SIZE, touch, tree
from numpy.typing import NDArray
from PIL import Image, ImageOps

from jobs.images.ground_truth import GroundTruth
from jobs.images.labelled import LabelledImage, labelled_set
from jobs.images.mask_levels import MaskError


def first_mask(root: Path, size: tuple[int, int] = SIZE) -> NDArray[np.bool_] | None:
    labelled = labelled_set(root)
    return GroundTruth(labelled).mask(hole(labelled.images), size[::-1])


def hole(images: list[LabelledImage]) -> LabelledImage:
    return next(image for image in images if image.key.startswith("hole/000."))


def lines(root: Path) -> str:
    return "\n".join(GroundTruth(labelled_set(root)).counts.lines())


def upright(folder: Path, orientation: int) -> NDArray[np.bool_]:
    """A mask of `touch` with this orientation, turned by Pillow."""
    with Image.open(touch(folder / "turned.png", mark=True, orientation=orientation)) as image:
        return np.asarray(ImageOps.exif_transpose(image)) > 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_of_turned_images(orientation: int, suffix: str, tmp_path: Path) -> None:
    root = tree(tmp_path, images=(f"hole/000.{suffix}",))
    touch(root / f"test/hole/000.{suffix}", orientation=orientation)
    mask = touch(root / "ground_truth/hole/000_mask.png", mark=True)
    expected = upright(tmp_path, orientation)
    assert np.array_equal(first_mask(root, SIZE[::-1]), expected)
    assert "on the stored pixels of images that EXIF turns: 1" in lines(root)
    Image.fromarray(expected).save(mask)
    assert np.array_equal(first_mask(root, SIZE[::-1]), expected) and "EXIF" not in lines(root)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_masks_that_fit_both_ways_follow_those_that_do_not(orientation: int, tmp_path: Path) -> None:
    root = tree(tmp_path)
    touch(root / "test/hole/000.png", orientation=orientation)
    mask = touch(root / "ground_truth/hole/000.png", mark=True)
    stored = np.asarray(Image.open(mask)) > 0
    assert np.array_equal(first_mask(root), stored) and "fit both" in lines(root)
    touch(root / "test/hole/001.png", orientation=6)
    touch(root / "ground_truth/hole/001.png", mark=True)
    assert np.array_equal(first_mask(root), upright(tmp_path, orientation))
    assert "EXIF turns: 2" in lines(root) and "fit both" not in lines(root)
    touch(root / "ground_truth/hole/001.png", size=SIZE[::-1], mark=True)
    assert np.array_equal(first_mask(root), stored) and "EXIF turns" not in lines(root) and "fit both" not in lines(root)


def test_a_square_image_that_is_turned_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path)
    touch(root / "test/hole/000.png", size=(32, 32), orientation=6)
    touch(root / "ground_truth/hole/000.png", size=(32, 32), mark=True)
    assert "fit both the stored and the turned image: 1" in lines(root)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_with_the_orientation_of_its_image(orientation: int, tmp_path: Path) -> None:
    root = tree(tmp_path)
    touch(root / "test/hole/000.png", orientation=orientation)
    touch(root / "ground_truth/hole/000.png", mark=True, orientation=orientation)
    expected = upright(tmp_path, orientation)
    assert np.array_equal(first_mask(root, expected.shape[::-1]), expected) and "EXIF" not in lines(root)


@pytest.mark.parametrize("size", [(20, 15), (80, 60), (30, 40), (40, 31)])
def test_another_size_is_refused_before_scoring(size: tuple[int, int], tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/001.png")
    touch(root / "ground_truth/hole/000.png", size=size, mark=True)
    with pytest.raises(MaskError, match=rf"be of its image's size; got {size[0]} x {size[1]} pixels.*has 40 x 30"):
        GroundTruth(labelled_set(root))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_of_a_tiff_is_that_of_its_full_picture(orientation: int, tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/000.png", images=("hole/000.tif",))
    turned = [(274, "H", 1, orientation, True)]
    with tifffile.TiffWriter(root / "test/hole/000.tif") as file:
        file.write(np.zeros((15, 20), np.uint8), subfiletype=1, extratags=turned)
        file.write(np.zeros((30, 40), np.uint8), extratags=turned)
    found = first_mask(root, SIZE if orientation == 1 else SIZE[::-1])
    assert np.array_equal(found, upright(tmp_path, orientation))


def test_all_files_of_a_folder_are_united(tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/000/000.png")
    Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(root / "ground_truth/hole/000/001.png")
    expected = np.eye(30, 40, dtype=bool)
    expected[2:8, 3:9] = True
    assert np.array_equal(first_mask(root), expected)
    touch(root / "ground_truth/hole/000/002.png", size=(41, 30))
    with pytest.raises(MaskError, match="be of the size and orientation of"):
        GroundTruth(labelled_set(root))


def test_every_fault_is_counted_and_the_first_one_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/000.png", "hole/001.png", "good/000.png")
    for name in ("000", "001"):
        (root / f"ground_truth/hole/{name}.png").write_bytes(b"no mask")
    with pytest.raises(MaskError, match=r"hole/000\.png must be a mask that can be read; .* Further masks with faults: 1\."):
        GroundTruth(labelled_set(root))


def test_what_is_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/000.png", "good/000.png", images=tuple(f"hole/{n:03d}.png" for n in range(6)))
    touch(root / "ground_truth/hole/001.png")
    pixels = np.asarray(Image.open(root / "ground_truth/hole/000.png"))
    Image.fromarray(255 - pixels).save(root / "ground_truth/hole/002.png")
    Image.fromarray(pixels).save(root / "ground_truth/hole/003.jpg")
    Image.fromarray(pixels // 255 + (np.arange(40) < 6) * (pixels > 0)).save(root / "ground_truth/hole/004.png")
    truth = GroundTruth(labelled_set(root))
    counts = truth.counts
    assert (counts.defects, counts.without_mask, counts.empty, counts.covering, counts.of_good) == (6, 1, 1, 1, 1)
    assert counts.kinds == {"binary": 2, "empty": 1, "lossy": 1, "classes": 1}
    assert [line.partition(" (")[0] for line in counts.lines()] == [
        "defect images without a mask: 1 of 6",
        "masks that mark no pixel: 1",
        "masks that mark more than half of their image: 1",
        "mask files with several values: 1",
        "JPEG masks: 1",
        "good images with a mask that marks a defect: 1",
    ]
    good = next(image for image in labelled_set(root).images if image.defect_type == "good")
    found = truth.mask(good, (30, 40))
    assert found is not None and not found.any()


def test_an_image_that_cannot_be_read_does_not_stop_its_mask(tmp_path: Path) -> None:
    root = tree(tmp_path, "hole/000.png")
    (root / "test/hole/000.png").write_bytes(b"not an image")
    assert not GroundTruth(labelled_set(root)).counts.turned
