"""Results go to a folder of this machine or to storage, and a place that takes none is said before the work."""

import pytest

from jobs.command.errors import UsageError
from jobs.command.result_folder import check_result_file, check_result_folder, put_result, result_folder
from pipeline.storage.objects import Denied
from pipeline.storage.store import open_store


def keys(place: str) -> list[str]:
    return [entry.key for entry in open_store(place).list()]


def test_what_is_written_is_there_once_the_block_has_ended(place: str) -> None:
    check_result_folder("--output", f"{place}/new")
    assert keys(place) == [], "a check leaves nothing behind"
    with result_folder(f"{place}/new") as folder:
        (folder / "a.png").write_bytes(b"a")
        (folder / "b.json").write_bytes(b"b")
    store = open_store(f"{place}/new")
    assert [(entry.key, store.get(entry.key)) for entry in store.list()] == [("a.png", b"a"), ("b.json", b"b")]


def test_one_file_replaces_the_one_before(place: str) -> None:
    check_result_file("--json", f"{place}/deep/figures.json")
    for text in ("1", "é2"):
        put_result(f"{place}/deep/figures.json", text)
    assert keys(place) == ["deep/figures.json"] and open_store(place).get("deep/figures.json").decode() == "é2"


def test_what_failed_puts_nothing_into_storage(s3_bucket: str) -> None:
    with pytest.raises(ValueError), result_folder(f"{s3_bucket}/new") as folder:
        (folder / "half.png").write_bytes(b"a")
        raise ValueError
    assert keys(s3_bucket) == []


def test_a_bucket_that_is_not_there_is_said_first(s3: str) -> None:
    for check, place in (
        (check_result_folder, "s3://no-such-bucket-here/x"),
        (check_result_file, "s3://no-such-bucket-here/x.json"),
    ):
        with pytest.raises(UsageError, match="--output must be a place that can be written; got 's3://no-such-bucket-here"):
            check("--output", place)


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/folder/"])
def test_a_file_needs_a_name(place: str) -> None:
    with pytest.raises(UsageError, match="--json must be a file that can be written; got .* Add a file's name"):
        check_result_file("--json", place)


def test_an_address_that_is_none() -> None:
    with pytest.raises(UsageError, match="--output must be s3://bucket/prefix or a folder; got 'http://plant/pictures'"):
        check_result_folder("--output", "http://plant/pictures")


def test_whoever_may_only_put_can_have_results_there(s3_bucket: str, monkeypatch) -> None:
    def refuse(key: str) -> None:
        raise Denied(f"{key}: AccessDenied (403)")

    monkeypatch.setattr(open_store(s3_bucket), "delete", refuse)
    check_result_folder("--output", s3_bucket)
    check_result_file("--json", f"{s3_bucket}/figures.json")
