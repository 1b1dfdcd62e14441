import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from fake_run import DIGEST, MODEL, failed, publish, published, scored, write_slice
from tiny_publications import publish_images

from jobs import doctor
from models.artifact import save
from models.calibration import in_folder
from models.calibration.example import calibration
from models.config import ArtifactConfig
from models.registry import build
from pipeline.state.entries import read_slice
from pipeline.state.lease import epochs
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Publications
from pipeline.state.tally import add_up
from pipeline.storage.store import open_store
from pipeline.tables.publication import settled

ROOT = Path(__file__).parents[2]


def findings(check, *arguments):
    return list(check(*arguments))


def run_doctor(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jobs.doctor", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_what_is_not_ok_says_what_to_do(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 2))
    (finding,) = findings(doctor.python)
    assert finding.level == "fail" and "3.11" in finding.fix
    assert str(finding).splitlines()[1].strip() == finding.fix


def test_the_machine_is_described():
    assert [finding.subject for finding in findings(doctor.machine)][:2] == ["cores", "memory"]


def test_little_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 1 << 60)
    memory = next(finding for finding in findings(doctor.machine) if finding.subject == "memory")
    assert memory.level == "warn" and memory.fix


def test_the_input_is_listed(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert [f.level for f in findings(doctor.readable, str(tmp_path / "full"))] == ["ok"]
    assert [f.level for f in findings(doctor.readable, str(tmp_path / "empty"))] == ["warn"]
    assert [f.level for f in findings(doctor.readable, "gs://bucket/x")] == ["fail"]


def test_the_probe_of_the_output_leaves_nothing(tmp_path):
    assert [finding.level for finding in findings(doctor.writable, str(tmp_path / "out"))] == ["ok"]
    assert list(open_store(str(tmp_path / "out")).list()) == []


def test_a_store_that_overwrites_is_refused(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "out"))
    monkeypatch.setattr(type(store), "put_new", lambda self, key, body: self.put(key, body) is None)
    (finding,) = findings(doctor.writable, str(tmp_path / "out"))
    assert finding.level == "fail" and "If-None-Match" in finding.text


def test_a_missing_model_fails_with_2():
    ended = run_doctor("--model", "/nonexistent/model")
    assert ended.returncode == 2
    assert "fail model" in ended.stdout and "Traceback" not in ended.stderr


def test_a_calibrated_model_says_what_it_promises(tmp_path):
    config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    saved = save(tmp_path / "tile", config, build(config), "# card")
    check = partial(findings, doctor.artifact, str(saved.directory), tmp_path / "cache")
    (before,) = check()
    in_folder.put(saved.directory, replace(calibration(pieces=212), model_digest=saved.model_digest))
    (after,) = check()
    assert "not calibrated: raw scores, no verdicts" in before.text and (before.level, after.level) == ("ok", "ok")
    assert "calibrated on 212 good pieces of 1 image from 10 lots, for cpu-float32" in after.text
    (saved.directory / "calibration.json").write_text("{}")
    (damaged,) = check()
    assert damaged.level == "fail" and "calibrate" in damaged.text


def state(output, level=None):
    return [finding for finding in findings(doctor.state, str(output)) if level in (None, finding.level)]


def test_slices_that_wait_are_reported_until_they_are_published(tmp_path):
    number = write_slice(tmp_path, [("2026-01-05", [scored("a", 1.0), failed("b")])], skip=(0,))
    ledger = Ledger(str(tmp_path), MODEL)
    epochs(ledger).put_new(1, b'{"host": "plant-7", "pid": 12}')
    (waiting,) = state(tmp_path, "warn")
    assert f"slice {number} has work units that are not scored" in waiting.text and "plant-7" in waiting.text
    other = write_slice(tmp_path, [("2026-01-06", [scored("c", 1.0), failed("d")])])
    add_up(ledger, other, read_slice(ledger, other))
    held = state(tmp_path, "warn")[1]
    assert f"slice {other} is scored and not published: 1 scored, errors: 1 truncated" in held.text
    assert f"--slice {other} --accept-errors" in held.fix
    publish(tmp_path, other)
    assert len(state(tmp_path, "warn")) == 1
    model = next(finding for finding in state(tmp_path) if finding.subject == "model")
    assert f"published up to slice {other}, last day 2026-01-06; scored by {DIGEST[:12]} from entry 2" in model.text


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


def test_tables_tell_their_protocol_and_retention(tmp_path):
    from pipeline.tables.delta import open_or_create
    from schemas import errors

    table = open_or_create(str(tmp_path), "errors", errors.SCHEMA)
    (finding,) = findings(doctor.tables, str(tmp_path))
    assert finding.level == "ok" and "reader 1" in finding.text and "90 days" in finding.text
    table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 1 days"})
    (finding,) = findings(doctor.tables, str(tmp_path))
    assert finding.level == "warn" and "delta.deletedFileRetentionDuration 'interval 97 days'" in finding.fix


def test_tables_whose_small_files_a_compaction_would_merge_are_named(tmp_path, monkeypatch):
    publish_images(str(tmp_path), "unit-1", ["a"])
    publish_images(str(tmp_path), "unit-2", ["b"])
    assert {finding.level for finding in findings(doctor.tables, str(tmp_path))} == {"ok"}
    monkeypatch.setattr(doctor, "MANY_SPARE", 0)
    found = {finding.text.split(":")[0]: finding for finding in findings(doctor.tables, str(tmp_path))}
    assert found["maps"].level == "warn" and "2 files, 1 more than are needed" in found["maps"].text
    assert "--compact" in found["maps"].fix and found["scores"].level == "ok"


def test_a_cluster_that_is_gone_fails(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    (finding,) = findings(doctor.ray)
    assert finding.level == "fail" and "RAY_ADDRESS must be host:port of the head" in finding.text
