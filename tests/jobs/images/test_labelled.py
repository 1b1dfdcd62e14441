"""What is found below test/: images by type, and everything that is none."""

import os
from pathlib import Path

import pytest
from labelled_tree import touch, tree

from jobs.command.errors import UsageError
from jobs.images.labelled import check_listed, encoded_parts, labelled_set


def keys(root: Path) -> list[str]:
    return [image.key for image in labelled_set(root).images]


def test_images_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    tree(tmp_path, images=("hole/b.png", "hole/a.JPG", "cut/cam 1/x.tif", "cut/ü.png"))
    found = labelled_set(tmp_path)
    assert [image.key for image in found.images] == ["cut/cam 1/x.tif", "cut/ü.png", "good/000.png", "hole/a.JPG", "hole/b.png"]
    assert found.types == ["cut", "good", "hole"] and [image.defect_type for image in found.images[:2]] == ["cut", "cut"]


def test_rows_and_images_go_together_in_parts(tmp_path: Path) -> None:
    tree(tmp_path, images=tuple(f"hole/{number:03d}.png" for number in range(200)))
    parts = list(encoded_parts(labelled_set(tmp_path)))
    assert [len(images) for images, _ in parts] == [128, 73]
    for images, table in parts:
        assert table["key"].to_pylist() == [image.key for image in images]
        assert table["encoded"].to_pylist() == [image.path.read_bytes() for image in images]


@pytest.mark.parametrize("litter", [".ipynb_checkpoints/000-checkpoint.png", ".DS_Store", "Thumbs.db", ".cache/a/b.png"])
@pytest.mark.parametrize("place", ["test", "test/hole", "test/good"])
def test_litter_is_no_image_and_no_type(litter: str, place: str, tmp_path: Path) -> None:
    expected = keys(tree(tmp_path))
    touch(tmp_path / place / "x.png").rename(tmp_path / "x.png")
    (tmp_path / place / litter).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "x.png").rename(tmp_path / place / litter)
    found = labelled_set(tmp_path)
    assert [image.key for image in found.images] == expected and found.types == ["good", "hole"] and not found.loose


@pytest.mark.parametrize("name", ["overview.jpg", "sheet.png", "report.pdf", "broken link"])
def test_what_lies_directly_in_test_is_counted(name: str, tmp_path: Path) -> None:
    expected = keys(tree(tmp_path))
    (tmp_path / "test" / name).symlink_to(tmp_path / "test/good/000.png" if "link" not in name else tmp_path / "nowhere")
    found = labelled_set(tmp_path)
    assert [image.key for image in found.images] == expected
    assert any(f"left out: 1, such as {name}" in line for line in found.lines())


@pytest.mark.parametrize("linked", ["test/good", "test/hole", "test", "ground_truth", "ground_truth/hole"])
def test_linked_folders_are_read(linked: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "set", "hole/000.png", "hole/001.png")
    expected = keys(root)
    (root / linked).rename(tmp_path / "elsewhere")
    (root / linked).symlink_to(tmp_path / "elsewhere")
    found = labelled_set(root)
    assert [image.key for image in found.images] == expected
    assert [len(image.masks) for image in found.images] == [0, 1, 1]
    assert not found.lines()


def test_linked_images_are_read_and_broken_links_are_rows(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "test/hole/000.png").rename(tmp_path / "far.png")
    (root / "test/hole/000.png").symlink_to(tmp_path / "far.png")
    (root / "test/hole/001.png").unlink()
    (root / "test/hole/001.png").symlink_to(tmp_path / "nowhere")
    ((_, table),) = encoded_parts(labelled_set(root))
    assert table["error"].to_pylist() == [None, None, "gone"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "test/hole/again").symlink_to(tmp_path / "test/hole")
    (tmp_path / "test/good/up").symlink_to(tmp_path / "test")
    assert keys(tmp_path).count("hole/000.png") == 1


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    tree(tmp_path)
    name = os.fsencode(tmp_path / "test/hole") + b"/caf\xe9.png"
    os.rename(tmp_path / "test/hole/001.png", name)
    assert "hole/caf\\xe9.png" in keys(tmp_path)


@pytest.mark.parametrize("empty", [["cut"], ["cut", "scratch"]])
def test_types_without_images_are_left_out_and_said(empty: list[str], tmp_path: Path) -> None:
    tree(tmp_path)
    for name in empty:
        (tmp_path / "test" / name).mkdir()
    found = labelled_set(tmp_path)
    assert found.types == ["good", "hole"] and all(f"test/{name}" in found.lines()[0] for name in empty)


def only_good(root: Path) -> None:
    for name in ("000", "001"):
        (root / f"test/hole/{name}.png").unlink()


def no_good(root: Path) -> None:
    (root / "test/good/000.png").unlink()


def good_linked_to_nothing(root: Path) -> None:
    no_good(root)
    (root / "test/good").rmdir()
    (root / "test/good").symlink_to(root / "nowhere")


def only_litter_is_good(root: Path) -> None:
    (root / "test/good/000.png").rename(root / "test/good/.000.png")


WRONG = {
    "no defect": (only_good, "MVTec layout"),
    "no good image": (no_good, "0 in test/good"),
    "good is a broken link": (good_linked_to_nothing, "MVTec layout"),
    "good holds litter only": (only_litter_is_good, "0 in test/good"),
    "Good": (lambda root: (root / "test/good").rename(root / "test/Good"), "1 in test/Good"),
    "a type named all": (lambda root: (root / "test/hole").rename(root / "test/all"), "without a type `all`"),
    "one folder twice": (lambda root: (root / "test/ok").symlink_to(root / "test/good"), "different folders"),
    "a tar file": (lambda root: (root / "test/hole/more.tar").write_bytes(b""), "Unpack the archive"),
    "a Parquet file": (lambda root: (root / "test/good/more.parquet").write_bytes(b""), "Unpack the archive"),
    "masks beside images": (lambda root: touch(root / "test/hole/000_mask.png"), "Move masks to ground_truth/hole"),
    "masks of another format": (lambda root: touch(root / "test/hole/001_MASK.TIF"), "Move masks to ground_truth/hole"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_one_sentence(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    change(tree(tmp_path))
    with pytest.raises(UsageError) as refused:
        labelled_set(tmp_path)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", sorted(set(WRONG) - {"good is a broken link", "one folder twice"}))  # storage has no links
def test_a_listing_is_refused_for_the_same(name: str, tmp_path: Path) -> None:
    change, _ = WRONG[name]
    check_listed(listing(tree(tmp_path)), str(tmp_path))
    change(tmp_path)
    for folder in (tmp_path / "test").iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    with pytest.raises(UsageError) as refused:
        labelled_set(tmp_path)
    with pytest.raises(UsageError) as listed:
        check_listed(listing(tmp_path), str(tmp_path))
    assert str(listed.value) == str(refused.value)


def listing(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", ["test/good", "test", "nowhere"])
def test_another_folder_of_the_set_is_no_set(place: str, tmp_path: Path) -> None:
    tree(tmp_path)
    with pytest.raises(UsageError, match="MVTec layout"):
        labelled_set(tmp_path / place)
