"""Outputs whose names mean something to the Delta library, to DuckDB or in a URL: everything is inside, and comes back."""

import io
from pathlib import Path

import numpy as np
import pytest
from fake_run import SOURCE, publish, published, score_without_model, scored
from PIL import Image

from jobs.command.entry import run
from jobs.finalize import main as finalize_main
from jobs.report import main as report_main
from pipeline.storage.copies import local_copy, upload_directory
from pipeline.storage.objects import BadUri
from pipeline.storage.store import open_store
from pipeline.tables.address import check_output, delta_address
from pipeline.tables.query import open_tables

DAY = "2026-01-01"
NAMES = [  # several in one path: an output costs seconds on S3
    "a%b/100%/n2024#2/m?x",
    " a b /a+b/a&b;c/dots..",
    "a[1]/st*r/br{a,b}",
    """it's "so"/<p>|^`/co:lon@~""",
    "grün 中/e\u0301",
    "date=1999-01-01/line=7",
    "model=%x/x=/=y",
]
REFUSED = ["o%20x", "a%2Fb", "50%ab", "t\tb", "new\nline", "\x7f"]


def press(code, main, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(main, [str(argument) for argument in arguments])
    assert ended.value.code == code


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_inside_and_comes_back(place, name, capsys):
    output = f"{place}/{name}"
    plain = SOURCE.model_copy(update={"key_pattern": "{line}/{name}"})
    published(output, [(DAY, [scored("a", 1.0), scored("b", 2.0)])], source=plain)
    published(output, [(DAY, [scored("a", 9.0), scored("c", 3.0)]), ("50% off/#?", [scored("d", 4.0)])])
    rows = open_tables(output).connection.sql("select uri, score, date, model, line from scores order by uri").fetchall()
    assert rows == [
        ("s3://line/a", 9.0, DAY, "tiles", "7"),
        ("s3://line/b", 2.0, DAY, "tiles", "7"),
        ("s3://line/c", 3.0, DAY, "tiles", "7"),
        ("s3://line/d", 4.0, "50% off/#?", "tiles", "7"),
    ]
    assert open_tables(output).connection.sql("select count(*) from maps join scores using (image_id)").fetchall() == [(4,)]
    press(0, finalize_main, "--output", output, "--clean")
    assert "files of scores" in capsys.readouterr().out
    assert open_tables(output).connection.sql("select count(*), max(score) from scores").fetchall() == [(4, 9.0)]
    keys = [entry.key for entry in open_store(place).list()]
    assert [key for key in keys if not key.startswith(f"{name}/")] == []
    for table in ("scores", "maps", "regions", "runs"):
        below = [key.removeprefix(f"{name}/") for key in keys if key.startswith(f"{name}/{table}/")]
        assert any("/_delta_log/" in key for key in below) and any(key.endswith(".parquet") for key in below), table


@pytest.mark.parametrize("name", ["in%20put #1", "in?[x]*", "in=put/date=1"])
def test_images_and_reports_of_such_places(place, tmp_path, name):
    store, output = open_store(f"{place}/{name}"), f"{place}/out/{name.replace('%20', '% ')}"
    for number in range(3):
        sink = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), 40 * number + 20, np.uint8)).save(sink, "PNG")
        store.put(f"a b/{number}%20#?+.png", sink.getvalue())
    publish(output, score_without_model(f"{place}/{name}", output))
    uris = open_tables(output).connection.sql("select uri from scores order by uri").fetchall()
    assert uris == [(f"{store.uri}/a b/{number}%20#?+.png",) for number in range(3)]
    page = tmp_path / "report #1?.html"
    press(0, report_main, "--output", output, "--html", page)
    assert page.read_text(encoding="utf-8").count("data:image/") >= 6  # each image and its heat map
    assert {entry.key.partition("/")[0] for entry in open_store(place).list()} == {name.partition("/")[0], "out"}


@pytest.mark.parametrize("name", ["m%20x", "m#1?", "m[*] =+&"])
def test_models_at_such_places_are_copied_as_they_are(place, tmp_path, name):
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "sub" / "w%20 #.bin").write_bytes(b"weights")
    upload_directory(model, f"{place}/{name}")
    copied = local_copy(f"{place}/{name}", tmp_path / "cache")
    assert (copied / "sub" / "w%20 #.bin").read_bytes() == b"weights"
    assert [entry.key for entry in open_store(place).list()] == [f"{name}/sub/w%20 #.bin"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_delta_cannot_name_is_refused_before_anything_is_written(place, name):
    with pytest.raises(BadUri, match="output must be a place whose name Delta tables can have"):
        check_output(f"{place}/{name}")
    with pytest.raises(BadUri):
        published(f"{place}/{name}", [(DAY, [scored("a", 1.0)])])
    assert all("_delta_log" not in entry.key for entry in open_store(place).list())


@pytest.mark.parametrize("uri", ["s3://bucket/a//b", "s3://bucket/./b", "s3://bucket/a/../b", "s3://bucket/a//"])
def test_segments_that_a_url_swallows(s3, uri):
    with pytest.raises(BadUri, match="an empty segment"):
        check_output(uri)


@pytest.mark.parametrize("name", ["back\\slash", b"\xff".decode("utf-8", "surrogateescape")])
def test_local_names_that_a_url_cannot_have(tmp_path, name):
    with pytest.raises(BadUri):
        check_output(str(tmp_path / name))


def test_a_plain_address_is_what_it_was(s3, tmp_path):
    assert delta_address(str(tmp_path), "scores") == f"{tmp_path}/scores"
    assert delta_address("s3://bucket/a/b", "scores") == "s3://bucket/a/b/scores"
    assert delta_address("s3://bucket", "scores") == "s3://bucket/scores"


def test_scratch_folders_with_such_names(tmp_path, monkeypatch):
    scratch = Path(tmp_path / "job=[12]*?{a}")
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    output = str(tmp_path / "out")
    for number in range(2):
        published(output, [(DAY, [scored("a", float(number))])])
    assert open_tables(output, scratch).connection.sql("select score, date from scores").fetchall() == [(1.0, DAY)]
