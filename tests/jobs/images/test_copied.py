"""What lies in storage is copied for a while; errors name the place in storage, not the copy."""

from pathlib import Path

import pytest

from jobs.command.errors import UsageError
from jobs.images.copied import copied
from jobs.images.mask_levels import MaskError
from pipeline.storage.store import open_store


def anything(keys: list[str]) -> None:
    """Nothing is wrong with any keys."""


def test_a_folder_of_this_machine_is_left_where_it_is(tmp_path: Path) -> None:
    with copied() as copies:
        assert copies.folder("--input", str(tmp_path), ("test",), anything) == tmp_path
        assert copies.file("--groups", str(tmp_path / "a.csv")) == tmp_path / "a.csv"


def test_only_the_folders_that_are_asked_for_are_copied_and_deleted_again(s3_bucket: str, capsys) -> None:
    store = open_store(f"{s3_bucket}/set")
    for key in ("test/good/0.png", "test/hole/", "ground_truth/hole/0.png", "train/good/0.png", "pieces.csv"):
        store.put(key, key.encode())
    listed: list[list[str]] = []
    with copied() as copies:
        root = copies.folder("--input", f"{s3_bucket}/set", ("test", "ground_truth"), listed.append)
        found = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
        assert found == {key: key for key in ("test/good/0.png", "ground_truth/hole/0.png")}
        assert copies.file("--groups", f"{s3_bucket}/set/pieces.csv").read_text() == "pieces.csv"
    assert not root.exists() and listed == [["test/good/0.png", "ground_truth/hole/0.png"]]
    shown = capsys.readouterr()
    assert f"copying 2 objects, 0.0 MB, from {s3_bucket}/set" in shown.out
    assert "copying: 2/2 objects, 100%" in shown.err


def test_what_is_wrong_with_the_listing_is_said_before_anything_is_copied(s3_bucket: str, capsys) -> None:
    open_store(s3_bucket).put("test/good/0.png", b"x")

    def refuse(keys: list[str]) -> None:
        raise UsageError("--input", "a folder in the layout", keys[0], "Correct it.")

    with pytest.raises(UsageError, match="got 'test/good/0.png'"), copied() as copies:
        copies.folder("--input", s3_bucket, ("test",), refuse)
    shown = capsys.readouterr()
    assert not shown.out + shown.err


def test_errors_name_the_place_in_storage(s3_bucket: str) -> None:
    open_store(f"{s3_bucket}/set").put("test/good/0.png", b"x")
    with pytest.raises(MaskError, match=f"^{s3_bucket}/set/ground_truth/0.png must be a mask"), copied() as copies:
        root = copies.folder("--input", f"{s3_bucket}/set/", ("test",), anything)
        raise MaskError(f"{root}/ground_truth/0.png must be a mask")


def test_what_is_not_there(s3_bucket: str) -> None:
    with pytest.raises(UsageError, match=r"--input must be a folder with test/ or ground_truth/; got"), copied() as copies:
        copies.folder("--input", f"{s3_bucket}/nothing", ("test", "ground_truth"), anything)
    with pytest.raises(UsageError, match=r"--groups must be a file; got .* There is none"), copied() as copies:
        copies.file("--groups", f"{s3_bucket}/pieces.csv")
    with pytest.raises(UsageError, match="Add a file's name"), copied() as copies:
        copies.file("--groups", s3_bucket)
