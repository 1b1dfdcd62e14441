import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
from fake_run import DIGEST, MODEL, SOURCE, failed, run_id, scored, write_slice

from pipeline.state.attempts import Attempts
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.tally import add_up
from pipeline.tables.run_row import run_change

STARTED, FINISHED = datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC)


def row_of(output, attempts):
    content = [("none", [scored("a", 1.0), failed("b")]), ("none", [scored("c", 1.0)])]
    number = write_slice(output, content, streams={0: 1}, ignored=7)
    ledger = Ledger(str(output), MODEL)
    entry = read_slice(ledger, number)
    models = '{"name": "tiles"}', "c0"
    (file,) = run_change(ledger, number, entry, add_up(ledger, number, entry), attempts, *models, 5, FINISHED).add
    assert file.partition == {"model": MODEL} and file.path.startswith(f"model={MODEL}/{run_id(number)}-")
    (row,) = pq.read_table(output / "runs" / file.path, partitioning=None).to_pylist()
    return row


def test_the_row_sums_the_slice_up(tmp_path):
    row = row_of(tmp_path, Attempts(2, STARTED, 12.5))
    assert (row["run_id"], row["slice"], row["publication"], row["model_digest"]) == (run_id(), 3, 5, DIGEST)
    assert (row["planned"], row["scored"], row["quarantined"], row["ignored"]) == (3, 2, 1, 3 + 3 * 7)
    assert (row["bytes_read"], row["device_seconds"]) == (300, 3.0)
    assert json.loads(row["stage_seconds"])["read"] == 0.75
    on = {"device": "cpu-float32", "hardware": "CPU with AVX2, torch 2.15.0", "one_by_one": False, "images": 2}
    assert json.loads(row["scored_on"]) == [on]
    assert (row["attempts"], row["spent_s"], row["started_at"], row["finished_at"]) == (2, 12.5, STARTED, FINISHED)
    assert json.loads(row["config"])["source"]["input_uri"] == SOURCE.input_uri
    assert (row["artifact"], row["calibration_digest"], row["code_version"]) == ('{"name": "tiles"}', "c0", "0.1.0")


def test_a_slice_that_no_driver_has_noted(tmp_path):
    row = row_of(tmp_path, Attempts(0, None, 0.0))
    assert (row["attempts"], row["started_at"], row["spent_s"]) == (0, None, 0.0)


def test_config_and_digest_are_those_of_the_newest_model(tmp_path):
    """A late image of an earlier day is scored by the model of its day, in the same slice."""
    number = write_slice(tmp_path, [("none", [scored("a", 1.0)])])
    ledger = Ledger(str(tmp_path), MODEL)
    entry = read_slice(ledger, number)
    (one,) = entry.scorings
    other = one.model_copy(update={"model_digest": "e" * 64})
    entry = entry.model_copy(update={"scorings": (other, one), "promotions": (9, 2)})
    (file,) = run_change(ledger, number, entry, add_up(ledger, number, entry), Attempts(0, None, 0.0), None, None, 1).add
    (row,) = pq.read_table(tmp_path / "runs" / file.path, partitioning=None).to_pylist()
    assert row["model_digest"] == "e" * 64 == json.loads(row["config"])["model_digest"] and row["artifact"] is None
