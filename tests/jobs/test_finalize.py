import os
import shlex

import judged_ledger
import pytest
from fake_run import FIRST, failed, scored, write_slice

from jobs.command.entry import run
from jobs.finalize import main
from pipeline.state.ledger import Ledger
from pipeline.storage.local import PARTIAL
from pipeline.tables.query import open_tables

CONTENT = [("2026-01-01", [scored("a", 1.0), scored("b", 3.0), failed("c")])]
STRICT = ("--min-errors", "1")


@pytest.fixture
def finalize(capsys):
    def call(output, *arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            run(main, ["--output", str(output), *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown

    return call


def uris(output):
    return open_tables(str(output)).connection.sql("select uri, line, product from scores order by score").fetchall()


def test_a_held_slice_is_published_on_request(tmp_path, finalize):
    write_slice(tmp_path, CONTENT)
    held = finalize(tmp_path, *STRICT, code=3)
    assert "33.33%" in held.out and "  1 truncated, for example 'c'\n" in held.out
    look, accept = (shlex.split(line.partition(": ")[2]) for line in held.out.splitlines()[-2:])
    assert look[:2] == ["flowscore", "query"] and "--unpublished" in look
    assert accept[:2] == ["flowscore", "finalize"] and accept[-3:] == ["--slice", str(FIRST), "--accept-errors"]
    begun, error, last = [line.partition(" ")[2] for line in held.err.splitlines()]
    assert begun.startswith("publishing what is finished") and error.startswith("error: held: 1 slice(s)")
    assert last.startswith("exit 3: too many images have errors")
    assert "2 scored, 1 in errors" in finalize(tmp_path, *STRICT, "--slice", str(FIRST), "--accept-errors").out
    assert uris(tmp_path) == [("s3://line/a", "7", "tile"), ("s3://line/b", "7", "tile")]
    assert "nothing to publish" in finalize(tmp_path, "--clean").out


def test_a_few_errors_hold_nothing(tmp_path, finalize):
    """One damaged image that arrives alone is all of its slice."""
    write_slice(tmp_path, [("none", [failed("alone")])])
    assert "0 scored, 1 in errors" in finalize(tmp_path).out


def test_a_held_or_open_slice_holds_no_other_back(tmp_path, finalize):
    write_slice(tmp_path, CONTENT)
    write_slice(tmp_path, [("2026-01-02", [scored("d", 1.0)])], skip=(0,))
    write_slice(tmp_path, [("2026-01-03", [scored("e", 2.0)])])
    shown = finalize(tmp_path, *STRICT, code=5)
    assert f"published slice {FIRST + 2}" in shown.out and uris(tmp_path) == [("s3://line/e", "7", "tile")]
    assert f"slice {FIRST} is not published" in shown.out and f"work unit 0 of slice {FIRST + 1}" in shown.out
    finalize(tmp_path, "--slice", str(FIRST))
    assert [uri for uri, *_ in uris(tmp_path)] == ["s3://line/a", "s3://line/e", "s3://line/b"]


def test_errors_that_are_mended_no_longer_count(tmp_path, finalize):
    write_slice(tmp_path, CONTENT)
    finalize(tmp_path, *STRICT, code=3)
    write_slice(tmp_path, [("2026-01-01", [scored("c", 5.0)])])
    shown = finalize(tmp_path, *STRICT, code=3)  # the held slice is looked at before the one that mends it
    assert f"published slice {FIRST + 1}" in shown.out
    assert f"published slice {FIRST}" in finalize(tmp_path, *STRICT).out
    assert [uri for uri, *_ in uris(tmp_path)] == ["s3://line/a", "s3://line/b", "s3://line/c"]


def test_errors_are_accepted_for_one_slice_at_a_time(tmp_path, finalize):
    write_slice(tmp_path, CONTENT)
    assert "--slice must be given with --accept-errors" in finalize(tmp_path, "--accept-errors", code=2).err
    write_slice(tmp_path, CONTENT, model="other")
    assert "--model must be given with --slice" in finalize(tmp_path, "--accept-errors", "--slice", "3", code=2).err


def test_all_models_or_one(tmp_path, finalize):
    for model in ("one", "two"):
        write_slice(tmp_path, CONTENT, model=model)
    shown = finalize(tmp_path, "--model", "two")
    assert "model two: published" in shown.out and "model one" not in shown.out
    assert "model one: published" in finalize(tmp_path).out


def test_what_cannot_be_published_is_said(tmp_path, finalize):
    assert "flowscore score" in finalize(tmp_path / "empty", code=2).err
    write_slice(tmp_path, CONTENT)
    assert "Models there: tiles" in finalize(tmp_path, "--model", "nope", code=2).err
    assert f"Waiting: {FIRST}" in finalize(tmp_path, "--slice", "99", code=2).err


def test_published_slices_stay_as_they_are(tmp_path, finalize):
    write_slice(tmp_path, CONTENT)
    finalize(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*.parquet"))
    finalize(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*.parquet")) == before


def test_compact_merges_files_and_changes_no_row(tmp_path, finalize):
    for score, name in enumerate("abc"):
        write_slice(tmp_path, [("2026-01-01", [scored(name, score)])])
    finalize(tmp_path)
    before = uris(tmp_path)
    assert "scores: 3 files merged into 1" in finalize(tmp_path, "--compact").out
    assert uris(tmp_path) == before
    assert "merged" not in finalize(tmp_path, "--compact").out


def test_clean_deletes_the_commits_of_what_is_published_and_of_nothing_else(tmp_path, finalize):
    for model in ("one", "two"):
        write_slice(tmp_path, CONTENT, model=model)
    finalize(tmp_path, "--model", "one")
    query = "select image_id, score, map_scale, unit_id from maps join scores using (image_id, unit_id) order by image_id"
    before = open_tables(str(tmp_path)).connection.sql(query).fetchall()
    left = tmp_path / "_flowscore" / f"left{PARTIAL}"
    left.touch()
    os.utime(left, (0, 0))
    shown = finalize(tmp_path, "--model", "one", "--clean").out
    assert "commits of published slices of one: 1 deleted" in shown and "commits of published slices of two: 0 deleted" in shown
    assert "Z files that were never written to their end: 1 deleted" in shown and not left.exists()
    assert [len(list(Ledger(str(tmp_path), model).commits(FIRST))) for model in ("one", "two")] == [0, 1]
    assert "nothing to publish" in finalize(tmp_path, "--model", "one").out
    assert open_tables(str(tmp_path)).connection.sql(query).fetchall() == before


def test_nights_of_a_calibrated_model_are_charted(tmp_path, finalize):
    output = tmp_path / "out"
    judged_ledger.publish(output, [("none", [judged_ledger.image("L", "0", 0.0)])])
    judged_ledger.put_rule(output, judged_ledger.calibration(judged_ledger.BY_IMAGE))
    night = [judged_ledger.image("L1", str(at), float(at)) for at in range(20)]
    write_slice(output, [("2026-01-02", night)], source=judged_ledger.SOURCE)
    finalize(output)
    assert [(row["date"], row["state"]) for row in judged_ledger.rows(output, "drift")] == [("2026-01-02", "reference")]
