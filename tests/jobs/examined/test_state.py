from dataclasses import replace

from fake_run import DIGEST, MODEL, failed, publish, published, scored, write_slice

from jobs.examined import state as examined
from pipeline.state.entries import read_slice
from pipeline.state.lease import epochs
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Publications
from pipeline.state.tally import add_up
from pipeline.storage.store import open_store
from pipeline.tables.publication import settled


def state(output, level=None):
    return [finding for finding in examined.state(str(output)) if level in (None, finding.level)]


def test_slices_that_wait_are_reported_until_they_are_published(tmp_path):
    number = write_slice(tmp_path, [("2026-01-05", [scored("a", 1.0), failed("b")])], skip=(0,))
    ledger = Ledger(str(tmp_path), MODEL)
    epochs(ledger).put_new(1, b'{"host": "plant-7", "pid": 12}')
    (waiting,) = state(tmp_path, "warn")
    assert f"slice {number} has work units that are not scored" in waiting.text and "plant-7" in waiting.text
    other = write_slice(tmp_path, [("2026-01-06", [scored("c", 1.0), failed("d")])])
    add_up(ledger, other, read_slice(ledger, other))
    held = state(tmp_path, "warn")[1]
    assert f"slice {other} is scored and not published: 1 scored, errors: 1 truncated, for example 'd'" in held.text
    look, accept = held.fix.splitlines()
    assert "flowscore query " in look and "--unpublished" in look and ledger.run_id(other) in look
    assert f"--slice {other} --accept-errors" in accept and "mend the images" in accept
    publish(tmp_path, other)
    assert len(state(tmp_path, "warn")) == 1
    model = next(finding for finding in state(tmp_path) if finding.subject == "model")
    assert f"published up to slice {other}, last day 2026-01-06; scored by {DIGEST[:12]} from entry 2" in model.text


def test_a_slice_without_errors_that_waits_has_none_to_accept(tmp_path):
    number = write_slice(tmp_path, [("2026-01-05", [scored("a", 1.0)])])
    ledger = Ledger(str(tmp_path), MODEL)
    add_up(ledger, number, read_slice(ledger, number))
    (waiting,) = state(tmp_path, "warn")
    assert "errors: none" in waiting.text and "flowscore finalize" in waiting.fix and "accept" not in waiting.fix


def test_a_publication_that_was_stopped_is_reported_until_somebody_completes_it(tmp_path):
    published(tmp_path, [("2026-01-05", [scored("a", 1.0)])])
    publications = Publications(str(tmp_path))
    manifest = publications.manifest(1)
    stopped = replace(manifest, number=2, kind="compaction", slice=None, changes={})
    publications.manifests.put_new(2, stopped.text())
    (finding,) = state(tmp_path, "warn")
    assert "publication 2 is written and not complete" in finding.text
    settled(str(tmp_path))
    assert state(tmp_path, "warn") == []


def test_state_of_another_layout_is_refused_in_one_line(tmp_path):
    open_store(str(tmp_path)).put("_flowscore/runs/night/config.json", b"{}")
    assert "Choose another --output" in state(tmp_path, "fail")[0].text
