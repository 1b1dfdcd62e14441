import json
import os

import pytest
from fake_run import failed, info, scored, write_slice

from jobs.command.entry import run
from jobs.finalize import main
from pipeline.state.run_state import RunState
from pipeline.storage.local import PARTIAL
from pipeline.tables.finalize import finalize_slice
from pipeline.tables.query import open_tables

CONTENT = [("2026-01-01", [scored("a", 1.0), scored("b", 3.0), failed("c")])]


@pytest.fixture
def finalize(capsys):
    def call(output, *arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            run(main, ["--output", str(output), *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown

    return call


def with_config(output, run_id="run1"):
    """The run's config, as `flowscore score` stores it before it plans."""
    config = {**info().config, "model_digest": "d" * 64, "scoring_version": 1}
    config["source"] = {"key_pattern": "{line}/{product}/{name}", "input_uri": "s3://line"}
    state = RunState(str(output), run_id)
    state.store.put(f"{state.prefix}/config.json", json.dumps(config).encode())
    return output


def test_held_back_slices_are_published_on_request(tmp_path, finalize):
    write_slice(with_config(tmp_path), CONTENT)
    held = finalize(tmp_path, code=3)
    assert "33.33%" in held.err and "--accept-errors" in held.err and held.err.count("\n") == 1
    assert "2 scored, 1 in errors" in finalize(tmp_path, "--accept-errors").out
    rows = open_tables(str(tmp_path)).connection.sql("select uri, line, product from scores order by score").fetchall()
    assert rows == [("s3://line/a", "7", "tile"), ("s3://line/b", "7", "tile")]
    assert "nothing to publish" in finalize(tmp_path, "--clean").out


def test_all_runs_or_one(tmp_path, finalize):
    for run_id in ("run1", "run2"):
        write_slice(with_config(tmp_path, run_id), CONTENT, run_id=run_id)
    finalize(tmp_path, "--run-id", "run2", "--max-error-share", "0.5")
    assert [len(RunState(str(tmp_path), run_id).published()) for run_id in ("run1", "run2")] == [0, 1]
    assert "run run1: published slice 0" in finalize(tmp_path, "--max-error-share", "0.5").out


def test_what_cannot_be_published_is_said(tmp_path, finalize):
    assert "flowscore score" in finalize(tmp_path / "empty", code=2).err
    write_slice(with_config(tmp_path), [*CONTENT, ("2026-01-02", [scored("d", 1.0)])], skip=(1,))
    assert "Runs there: run1" in finalize(tmp_path, "--run-id", "nope", code=2).err
    assert "work unit 1 of slice 0" in finalize(tmp_path, "--max-error-share", "1", code=5).err


def test_published_slices_stay_as_they_are(tmp_path, finalize):
    write_slice(with_config(tmp_path), CONTENT)
    finalize_slice(str(tmp_path), info())
    before = sorted(path for path in tmp_path.rglob("*.parquet"))
    finalize(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*.parquet")) == before


def test_clean_deletes_the_commits_of_what_is_published_and_of_nothing_else(tmp_path, finalize):
    for run_id in ("run1", "run2"):
        write_slice(with_config(tmp_path, run_id), CONTENT, run_id=run_id)
    states = [RunState(str(tmp_path), run_id) for run_id in ("run1", "run2")]
    finalize(tmp_path, "--run-id", "run1", "--max-error-share", "0.5")
    query = "select image_id, score, map_scale, unit_id from maps join scores using (image_id, unit_id) order by image_id"
    before = open_tables(str(tmp_path)).connection.sql(query).fetchall()
    left = tmp_path / "_flowscore" / "runs" / f"left{PARTIAL}"
    left.touch()
    os.utime(left, (0, 0))
    shown = finalize(tmp_path, "--run-id", "run1", "--clean").out
    assert "run run1: 1 commits" in shown and "run run2: 0 commits" in shown
    assert "\n1 files that were never written to their end deleted" in shown and not left.exists()
    assert [len(list(state.commits(0))) for state in states] == [0, 1]
    assert "nothing to publish" in finalize(tmp_path, "--run-id", "run1").out
    assert open_tables(str(tmp_path)).connection.sql(query).fetchall() == before
