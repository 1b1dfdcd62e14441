"""Images of --input and --good: one image, a folder, a prefix or a shard, in storage or on a disk."""

import io
import tarfile
from pathlib import Path

import pytest

from jobs.command.errors import UsageError
from jobs.explained.given import given_images
from pipeline.storage.store import open_store


def tar(names: list[str]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = len(name)
            archive.addfile(header, io.BytesIO(name.encode()))
    return sink.getvalue()


def test_a_folder_or_prefix_in_the_order_of_its_keys_shards_included(place: str) -> None:
    store = open_store(place)
    for key in ("b.png", "a/c.png", "Thumbs.db", "notes.txt"):
        store.put(key, key.encode())
    store.put("a/shard.tar", tar(["0.png", "1.png", "1.json"]))
    found = given_images("--input", place, 10)
    assert [each.name for each in found] == ["a/c.png", "a/shard.tar/0.png", "a/shard.tar/1.png", "b.png"]
    assert [each.encoded for each in found] == [b"a/c.png", b"0.png", b"1.png", b"b.png"]
    assert [each.name for each in given_images("--input", place, 2)] == ["a/c.png", "a/shard.tar/0.png"]
    assert [each.name for each in given_images("--input", f"{place}/a", 1)] == ["c.png"]


def test_one_image_or_one_shard(place: str) -> None:
    store = open_store(place)
    for key in ("in/b.png", "in/b.png.bak.png", "in/notes.yaml"):
        store.put(key, key.encode())
    store.put("in/shard.tar", tar(["0.png", "1.png"]))
    (only,) = given_images("--input", f"{place}/in/b.png", 10)
    assert (only.name, only.encoded, only.fault) == ("b.png", b"in/b.png", "")
    assert [each.name for each in given_images("--good", f"{place}/in/shard.tar", 9)] == ["shard.tar/0.png", "shard.tar/1.png"]
    (named,) = given_images("--input", f"{place}/in/notes.yaml", 10)
    assert named.encoded == b"in/notes.yaml", "somebody who names a file means that file"


def test_there_must_be_something(place: str) -> None:
    open_store(place).put("empty/notes.txt", b"x")
    with pytest.raises(UsageError, match="--good must be an image or a folder of images; got .* It holds no images"):
        given_images("--good", f"{place}/empty", 3)
    with pytest.raises(UsageError, match="--input must be an image or a folder of images; got .*none"):
        given_images("--input", f"{place}/none", 3)


def test_what_cannot_be_read_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    (found,) = given_images("--input", str(tmp_path), 3)
    assert found.encoded is None and "zip" in found.fault


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    (tmp_path / "stored").mkdir()
    for name in ("b.png", "a.png", "Thumbs.db"):
        (tmp_path / "stored" / name).write_bytes(b"x")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "stored")
    (tmp_path / "stored" / "loop").symlink_to(tmp_path / "set")
    assert [each.name for each in given_images("--input", str(tmp_path / "set"), 9)] == ["linked/a.png", "linked/b.png"]
