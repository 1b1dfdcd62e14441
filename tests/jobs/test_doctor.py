import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jobs import doctor
from models.artifact import save
from models.calibration import in_folder
from models.calibration.example import calibration
from models.config import ArtifactConfig
from models.registry import build
from pipeline.stages.cluster_address import Joinable
from pipeline.stages.joining.facts import ClusterFacts, ClusterNode
from pipeline.stages.joining.nodes import NodeLacks
from pipeline.storage.store import open_store

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
    (finding,) = findings(doctor.readable, str(tmp_path / "fulll"))
    assert finding.level == "fail" and "Did you mean" in finding.text


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


def test_a_cluster_that_is_gone_fails(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # an earlier test may have left one running
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    (finding,) = findings(doctor.ray, None)
    assert finding.level == "fail" and "RAY_ADDRESS must be host:port of the head" in finding.text
    (finding,) = findings(doctor.ray, "head.invalid:6379")
    assert finding.level == "fail" and "address must be that of a Ray cluster that runs" in finding.text


def test_without_a_cluster_ray_is_not_started(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("started"))
    (finding,) = findings(doctor.ray, None)
    assert finding.level == "ok" and finding.text.endswith("jobs start it on this machine")
    assert findings(doctor.nodes, None, "in", "out") == []


@pytest.mark.parametrize(
    ("nodes", "level", "said"),
    [
        ([(16.0, 1.0), (16.0, 0.0)], "ok", "2 node(s) with 32 CPUs and 1 GPUs"),
        ([(0.0, 0.0)], "warn", "1 node(s) with 0 CPUs and 0 GPUs"),
    ],
)
def test_a_cluster_says_its_versions_and_what_it_has(monkeypatch, nodes, level, said):
    facts = ClusterFacts("2.60.0", "3.11.9", tuple(ClusterNode("a", "10.0.0.7", *has) for has in nodes))
    monkeypatch.setattr(doctor, "check_cluster", lambda address: Joinable("head:6379", facts))
    first, second = findings(doctor.ray, "head:6379")
    assert first.text.endswith("jobs join head:6379") and first.level == "ok"
    assert (second.level, second.subject) == (level, "cluster") and f"Ray 2.60.0 on Python 3.11.9; {said}" in second.text


def test_a_node_that_lacks_something_fails(monkeypatch, tmp_path):
    def lacking(*_):
        raise NodeLacks("node n7 cannot list the input")

    monkeypatch.setattr(doctor, "check_cluster", lambda address: Joinable("head:6379", ClusterFacts("", "", ())))
    monkeypatch.setattr(doctor, "start_ray", lambda address: None)
    monkeypatch.setattr(doctor.Nodes, "check", lacking)
    (finding,) = findings(doctor.nodes, "head:6379", str(tmp_path / "in"), str(tmp_path / "out"))
    assert (finding.level, finding.text) == ("fail", "node n7 cannot list the input")
    monkeypatch.setattr(doctor.Nodes, "check", lambda *_: 3)
    (finding,) = findings(doctor.nodes, "head:6379", str(tmp_path / "in"), str(tmp_path / "out"))
    assert finding.level == "ok" and finding.text.startswith("3 can list")
