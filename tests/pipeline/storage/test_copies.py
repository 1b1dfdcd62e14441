"""A directory in storage is replaced so that a reader sees the old one, the new one, or one that does not fit its digests."""

from pathlib import Path

import pytest

from pipeline.storage.copies import local_copy, replace_directory
from pipeline.storage.objects import PROBE, Denied
from pipeline.storage.store import open_store


def content(place: str) -> dict[str, bytes]:
    store = open_store(place)
    return {entry.key: store.get(entry.key) for entry in store.list()}


def test_what_the_new_one_lacks_is_deleted_and_other_objects_stay(place: str, tmp_path: Path) -> None:
    store = open_store(place)
    for name in ("digests", "weights", "calibration", "notes"):
        store.put(name, b"old")
    (tmp_path / "new").mkdir()
    for name in ("digests", "weights"):
        (tmp_path / "new" / name).write_bytes(b"new")
    replace_directory(tmp_path / "new", place, "digests", ("calibration", "weights"))
    assert content(place) == {"digests": b"new", "weights": b"new", "notes": b"old"}


def test_whoever_may_only_put_fills_a_free_place(place: str, tmp_path: Path, monkeypatch) -> None:
    """Storage refuses to delete what is not there too."""

    def refuse(key: str) -> None:
        raise Denied(f"{key}: AccessDenied (403)")

    store = open_store(place)
    monkeypatch.setattr(store, "delete", refuse)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "digests").write_bytes(b"new")
    replace_directory(tmp_path / "new", place, "digests", ("calibration",))
    assert content(place) == {"digests": b"new"}
    store.put("calibration", b"old")
    with pytest.raises(Denied):
        replace_directory(tmp_path / "new", place, "digests", ("calibration",))


def test_an_object_that_tried_the_place_is_no_part_of_the_directory(s3_bucket: str, tmp_path: Path) -> None:
    store = open_store(s3_bucket)
    store.put("weights", b"w")
    first = local_copy(s3_bucket, tmp_path)
    store.put(f"{PROBE}-0", b"")
    assert local_copy(s3_bucket, tmp_path) == first and [path.name for path in first.iterdir()] == ["weights"]


def test_the_digests_come_last(tmp_path: Path, monkeypatch) -> None:
    written = []
    (tmp_path / "new").mkdir()
    for name in ("a", "digests", "z"):
        (tmp_path / "new" / name).write_bytes(b"new")
    store = open_store(tmp_path / "there")
    monkeypatch.setattr(store, "put", lambda key, body: written.append(key))
    replace_directory(tmp_path / "new", tmp_path / "there", "digests", ())
    assert written == ["a", "z", "digests"]
