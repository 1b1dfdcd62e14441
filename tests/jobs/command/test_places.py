"""Places that cannot be written are found before the work, by every verb that writes files of its own."""

from pathlib import Path

import pytest

from jobs import bench, demo, evaluate, explain, query, report, train
from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.places import check_file, check_folder, check_input, check_store
from pipeline.storage.objects import PROBE, Denied
from pipeline.storage.store import open_store

MODEL = ("--model", "no-model")


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    check_file("--json", tmp_path / "a" / "b" / "figures.json")
    check_folder("--output", tmp_path / "there" / "new")
    check_folder("--output", tmp_path / "there")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    check_file("--json", path)
    assert path.read_text() == "old"
    check_file("--json", Path("/dev/null"))


@pytest.mark.parametrize("place", ["", "file/figures.json", "file/folder/figures.json", "x" * 300 + "/figures.json"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--json must be .*can be written; got"):
        check_file("--json", tmp_path / place)


@pytest.mark.parametrize("address", ["s3://bucket/x.html", "file:///tmp/x.html", "S3://bucket/x"])
def test_an_address_is_no_file_of_this_machine(tmp_path: Path, monkeypatch, address: str) -> None:
    """It would make a folder `s3:` here."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--html must be a file on this machine; got '.*://"):
        check_file("--html", Path(address))
    check_file("--html", Path("a:/x"))
    check_file("--html", Path("night-2026-01-01T00:00/x.html"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--output must be in a folder that can be written; got .* File exists"):
        check_folder("--output", tmp_path / "file")


@pytest.mark.parametrize(
    ("verb", "flag", "arguments"),
    [
        (bench, "--csv", ("--measure", "decode-only")),
        (demo, "--directory", ()),
        (evaluate, "--json", (*MODEL, "--input", "no-input")),
        (explain, "--output", (*MODEL, "--input", "no-input")),
        (query, "--parquet", ("select 1", "--output", "no-output")),
        (report, "--html", ("--output", "no-output")),
        (report, "--png", ("--output", "no-output")),
        (train, "--model-out", ("--input", "no-input")),
    ],
)
def test_every_verb_says_so_first(tmp_path: Path, capsys, verb, flag: str, arguments: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        run(verb.main, [*arguments, flag, str(tmp_path / "file" / "result.png")])
    errors = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(errors) == 1 and errors[0].startswith(f"error: {flag} must be")


def test_an_input_that_is_not_there_proposes_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "file").touch()
    check_input("--input", str(tmp_path / "good"))
    check_input("--input", f"file://{tmp_path}/good")
    with pytest.raises(UsageError, match="--input must be a folder that is there.*Did you mean '.*/good'"):
        check_input("--input", str(tmp_path / "goood"))
    with pytest.raises(UsageError, match="Check the path"):
        check_input("--input", str(tmp_path / "nowhere" / "good"))
    with pytest.raises(UsageError, match="It is a file: give the folder that holds it"):
        check_input("--input", str(tmp_path / "file"))


@pytest.mark.parametrize("uri", ["https://host/x", "gs://bucket/x", "s3://"])
def test_an_address_of_no_store_is_one_sentence(uri: str) -> None:
    with pytest.raises(UsageError, match="--input must be s3://bucket/prefix or a folder; got"):
        check_input("--input", uri)


def test_a_path_to_storage_makes_no_folder_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for check, what in ((check_file, "a file"), (check_folder, "a folder")):
        with pytest.raises(UsageError, match=f"--html must be {what} on this machine; got 's3://bucket/report.html'"):
            check("--html", Path("s3://bucket/report.html"))
    assert not list(tmp_path.iterdir())


def test_a_store_is_tried_and_left_as_it_was(s3_bucket: str) -> None:
    assert not list(check_store("--model-out", f"{s3_bucket}/model").list())
    with pytest.raises(UsageError, match="--model-out must be a place that can be written.*no bucket"):
        check_store("--model-out", f"{s3_bucket}-that-is-not-there/model")


def test_the_right_to_delete_is_wanted_only_where_it_is_needed(s3_bucket: str, monkeypatch) -> None:
    def refuse(key: str) -> None:
        raise Denied(f"{key}: AccessDenied (403)")

    store = open_store(s3_bucket)
    monkeypatch.setattr(store, "delete", refuse)
    check_store("--json", s3_bucket)
    check_store("--json", s3_bucket)
    assert len({entry.key for entry in store.list() if entry.key.startswith(PROBE)}) == 2, "two commands share no object"
    with pytest.raises(
        UsageError, match=r"--json must be a place in which objects can be deleted; .* \(403\)\. Ask for the right"
    ):
        check_store("--json", s3_bucket, deletes=True)
