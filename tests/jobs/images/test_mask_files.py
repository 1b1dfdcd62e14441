"""Which mask belongs to which image, by its name."""

from pathlib import Path

import pytest
from labelled_tree import touch, tree

from jobs.command.errors import UsageError
from jobs.images.labelled import labelled_set


def masks(root: Path) -> dict[str, list[str]]:
    return {
        image.key: [str(path.relative_to(root / "ground_truth")) for path in image.masks] for image in labelled_set(root).images
    }


@pytest.mark.parametrize("stem", ["000", "000_mask", "000_MASK"])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".tif", ".TIF", ".tiff", ".bmp", ".Bmp"])
def test_names(stem: str, suffix: str, tmp_path: Path) -> None:
    tree(tmp_path, f"hole/{stem}{suffix}")
    assert masks(tmp_path) == {"good/000.png": [], "hole/000.png": [f"hole/{stem}{suffix}"], "hole/001.png": []}


def test_a_folder_an_image(tmp_path: Path) -> None:
    tree(tmp_path, "hole/000/000.png", "hole/000/001.png", "hole/001/000.png")
    assert masks(tmp_path)["hole/000.png"] == ["hole/000/000.png", "hole/000/001.png"]
    assert masks(tmp_path)["hole/001.png"] == ["hole/001/000.png"]


def test_folders_below_a_type(tmp_path: Path) -> None:
    tree(tmp_path, "hole/cam1/000_mask.png", "hole/cam2/000.png", images=("hole/cam1/000.png", "hole/cam2/000.jpg"))
    assert masks(tmp_path)["hole/cam1/000.png"] == ["hole/cam1/000_mask.png"]
    assert masks(tmp_path)["hole/cam2/000.jpg"] == ["hole/cam2/000.png"]


@pytest.mark.parametrize("name", ["v1.2_000", "part 7 (copy)", "000.ok", "übung"])
def test_names_with_other_characters(name: str, tmp_path: Path) -> None:
    tree(tmp_path, f"hole/{name}_mask.png", images=(f"hole/{name}.png",))
    assert masks(tmp_path)[f"hole/{name}.png"] == [f"hole/{name}_mask.png"]


UNCLEAR = {
    "two masks": (("hole/000_mask.png", "hole/000.png"), ("hole/000.png",), "one file"),
    "two formats": (("hole/000_mask.png", "hole/000_mask.tif"), ("hole/000.png",), "one file"),
    "a file and a folder": (("hole/000_mask.png", "hole/000/000.png"), ("hole/000.png",), "one file"),
    "two images of one name": (("hole/000_mask.png",), ("hole/000.png", "hole/000.jpg"), "the mask of one image"),
    "an image's folder is an image's name": (("hole/a/b.png",), ("hole/a.png", "hole/a/b.png"), "the mask of one image"),
    "another naming": (("hole/000_gt.png", "hole/001_gt.png"), ("hole/000.png", "hole/001.png"), "named after an image"),
    "numbers": (("hole/1.png",), ("hole/000.png",), "named after an image"),
    "no folders of types": (("000_mask.png",), ("hole/000.png",), "the masks of the images"),
    "another type's name": (("Hole/000_mask.png",), ("hole/000.png",), "the masks of the images"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_unclear_is_one_sentence(name: str, tmp_path: Path) -> None:
    given, images, words = UNCLEAR[name]
    tree(tmp_path, *given, images=images)
    with pytest.raises(UsageError) as refused:
        labelled_set(tmp_path)
    assert words in str(refused.value)


def test_masks_without_an_image_are_counted(tmp_path: Path) -> None:
    found = labelled_set(tree(tmp_path, "hole/000.png", "hole/017.png", "cut/000.png"))
    assert found.lines() == ["masks that belong to no image: 2, such as ground_truth/cut/000.png"]


def test_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    tree(tmp_path)
    for name in ("hole/000.json", "hole/001.json", "hole/000.npy", "hole/000.gif", "hole/Thumbs.db", "hole/.hidden.json"):
        (tmp_path / "ground_truth" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ground_truth" / name).write_bytes(b"1")
    (line,) = labelled_set(tmp_path).lines()
    assert "2 .json" in line and "1 .npy" in line and "1 .gif" in line and ".db" not in line


def test_hidden_folders_hold_no_masks(tmp_path: Path) -> None:
    tree(tmp_path, "hole/000.png")
    touch(tmp_path / "ground_truth/hole/.ipynb_checkpoints/001.png")
    touch(tmp_path / "ground_truth/.ipynb_checkpoints/hole/000.png")
    assert not labelled_set(tmp_path).lines()


def test_no_folder_of_masks_is_said(tmp_path: Path) -> None:
    assert labelled_set(tree(tmp_path)).lines() == ["there is no folder ground_truth/, so no defect has a mask"]
