from dataclasses import replace

import pytest
from published_rows import new_ledger, publish_rows, seal_slice

from pipeline import run as module
from pipeline.input.config import SourceConfig
from pipeline.run import RunLimits, ScoringRun, score_archive
from pipeline.state.attempts import Attempt
from pipeline.state.judges import Ruling
from pipeline.state.promotion import Trained
from pipeline.tables.delta import open_table
from pipeline.tables.held import SliceHeld
from pipeline.tables.rekey import begin
from schemas.outcome import Outcome
from schemas.tally import Tally

OLD, NEW = "{line}/{lot}/{name}", "{hall}/{line}/{name}"


class NoEngine:
    """A run that scores nothing starts nothing."""

    def map(self, function, jobs, memory_bytes=0):
        return map(function, jobs)


def scoring_run(tmp_path, ledger, pattern):
    for folder in ("in", "model"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return ScoringRun(
        ledger=ledger,
        trained=Trained("d", {"input": {"height": 64, "width": 64}}, tmp_path / "model"),
        source=SourceConfig(input_uri=f"file://{tmp_path}/in", key_pattern=pattern),
        decode={},
        explain=None,
        cache_dir=str(tmp_path),
        limits=RunLimits(),
    )


def test_a_rekey_that_was_stopped_is_finished(tmp_path):
    ledger = new_ledger(tmp_path / "out", OLD)
    publish_rows(ledger, f"file://{tmp_path}/in", [("north/l1/a.png", None, 1.0)])
    begin(ledger, NEW)
    score_archive(scoring_run(tmp_path, ledger, NEW), NoEngine())
    rows = open_table(ledger.output_uri, "scores").to_pyarrow_table().to_pylist()
    assert [(row["hall"], row["line"], row["lot"]) for row in rows] == [("north", "l1", None)]


def test_a_held_slice_is_judged_again_once_what_is_new_is_published(tmp_path, monkeypatch):
    ledger = new_ledger(tmp_path / "out", OLD)
    held = seal_slice(ledger, f"file://{tmp_path}/in")
    published = []

    def publish(ledger, number, hold, map_fn, handles):
        if number == held and not published:
            raise SliceHeld("20 of 20 are damaged")
        published.append(number)
        return Tally()

    def plan(ledger, wanted):
        return seal_slice(ledger, f"file://{tmp_path}/in")  # the mended images

    monkeypatch.setattr(module, "publish_slice", publish)
    monkeypatch.setattr(module, "plan_slice", plan)
    monkeypatch.setattr(module, "read_tally", lambda ledger, number: Tally())
    result = score_archive(scoring_run(tmp_path, ledger, OLD), NoEngine())
    assert published[1] == held and not result.held and len(result.published) == 2


def test_a_run_merges_small_files_with_the_tables_that_its_publication_has_loaded(tmp_path, monkeypatch):
    ledger = new_ledger(tmp_path / "out", OLD)
    seal_slice(ledger, f"file://{tmp_path}/in")
    merged = []

    def publish(ledger, number, hold, map_fn, handles):
        handles["scores"] = f"as slice {number} left it"
        return Tally()

    monkeypatch.setattr(module, "publish_slice", publish)
    monkeypatch.setattr(module, "plan_slice", lambda ledger, wanted: None)
    monkeypatch.setattr(module, "read_tally", lambda ledger, number: Tally())
    monkeypatch.setattr(module, "compact_if_due", lambda ledger, handles, map_fn: merged.append(dict(handles)))
    score_archive(scoring_run(tmp_path, ledger, OLD), NoEngine())
    assert merged == [{"scores": "as slice 2 left it"}]


@pytest.mark.parametrize(("calibration", "charted"), [("c" * 64, [("charted", {"scores": "as slice 2 left it"})]), (None, [])])
def test_nights_of_a_calibrated_model_are_charted_once_all_is_published(tmp_path, monkeypatch, calibration, charted):
    """With the tables that are loaded; the calibration may be the command's own."""
    ledger = new_ledger(tmp_path / "out", OLD)
    seal_slice(ledger, f"file://{tmp_path}/in")
    done = []

    def publish(ledger, number, hold, map_fn, handles):
        handles["scores"] = f"as slice {number} left it"
        done.append("published")
        return Tally()

    monkeypatch.setattr(module, "publish_slice", publish)
    monkeypatch.setattr(module, "plan_slice", lambda ledger, wanted: None)
    monkeypatch.setattr(module, "read_tally", lambda ledger, number: Tally())
    monkeypatch.setattr(module, "judge_anew", lambda *_: [])
    monkeypatch.setattr(module, "chart_nights", lambda ledger, map_fn, handles: done.append(("charted", dict(handles))))
    monkeypatch.setattr(module, "compact_if_due", lambda ledger, handles, map_fn: done.append("merged"))
    run = replace(scoring_run(tmp_path, ledger, OLD), ruling=Ruling("d", calibration, tmp_path / "model"))
    score_archive(run, NoEngine())
    assert done == ["published", *charted, "merged"]


def test_a_slice_that_goes_on_on_another_device_says_so_in_one_line(tmp_path, monkeypatch):
    ledger = new_ledger(tmp_path / "out", OLD)
    number = seal_slice(ledger, f"file://{tmp_path}/in")
    with Attempt(ledger, number) as earlier:
        earlier.note({"cuda-bf16: NVIDIA H100"})

    def score(config, units, index, engine, lease, store, patience, progress, on_progress):
        for scored_on in ("cuda-bf16: NVIDIA H100", "cuda-bf16: NVIDIA L4", "cuda-bf16: NVIDIA L4"):
            progress.take(Outcome(0, 0, scored=1, scored_on=scored_on))
            on_progress(progress)
        return {}

    warned = []
    monkeypatch.setattr(module, "score_units", score)
    monkeypatch.setattr(module, "publish_slice", lambda *_: Tally())
    monkeypatch.setattr(module, "plan_slice", lambda ledger, wanted: None)
    monkeypatch.setattr(module, "compact_if_due", lambda *_: None)
    monkeypatch.setattr(module.log, "warning", warned.append)
    score_archive(scoring_run(tmp_path, ledger, OLD), NoEngine())
    (line,) = warned
    assert line.startswith(f"{ledger.slice_name(number)}: images are now scored on cuda-bf16: NVIDIA L4; earlier commits")


def test_the_last_progress_of_a_slice_says_whether_anything_is_open(tmp_path, monkeypatch):
    ledger = new_ledger(tmp_path / "out", OLD)
    left = {seal_slice(ledger, f"file://{tmp_path}/in"): {0: "no answer"}, seal_slice(ledger, f"file://{tmp_path}/in"): {}}
    said = []
    monkeypatch.setattr(module, "score_units", lambda config, *_: left[config.slice])
    monkeypatch.setattr(module, "publish_slice", lambda *_: Tally())
    monkeypatch.setattr(module, "plan_slice", lambda ledger, wanted: None)
    monkeypatch.setattr(module, "compact_if_due", lambda *_: None)
    run = scoring_run(tmp_path, ledger, OLD)
    score_archive(run, NoEngine(), lambda progress: said.append((progress.slice, progress.ended, progress.finished)))
    (opened, whole) = left
    assert said == [(ledger.slice_name(opened), True, False), (ledger.slice_name(whole), True, True)]
