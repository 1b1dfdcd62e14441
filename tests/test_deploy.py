"""The deployment files parse, agree with each other, and name the Ray version of requirements.lock."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from jobs.command.entry import run
from jobs.settings.scoring import ScoreSettings
from pipeline.stages.cluster import IDLE_WORKERS_STAY_S

ROOT = Path(__file__).parents[1]
RAY_VERSION = re.search(r"^ray\[?.*?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_cluster_launcher_takes_its_file(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = prepare_config(read("cluster.yaml"))
    validate_config(config)
    kinds = config["available_node_types"]
    assert set(kinds) == {"head", "cpu", "gpu-spot"}
    assert kinds["head"]["resources"]["CPU"] == 0
    assert kinds["gpu-spot"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_the_nightly_job_is_the_single_job():
    assert read("deploy/raycronjob.yaml")["spec"]["jobTemplate"] == read("deploy/rayjob.yaml")["spec"]


def test_a_finished_or_failed_job_leaves_no_cluster():
    spec = read("deploy/rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] and spec["backoffLimit"]
    assert spec["entrypoint"].startswith("python -m jobs.score --model ")


@pytest.mark.parametrize("name", ["deploy/rayjob.yaml", "deploy/raycronjob.yaml"])
def test_a_job_reads_day_and_lot_from_the_paths(name):
    """The entrypoint goes through a shell; without a pattern every image has the date none, and no lot."""
    spec = read(name)["spec"]
    python, _, verb, *given = shlex.split(spec.get("jobTemplate", spec)["entrypoint"])
    assert (python, verb) == ("python", "jobs.score")
    settings = []

    def main(given: ScoreSettings) -> None:
        settings.append(given)

    with pytest.raises(SystemExit):
        run(main, given)
    source = settings[0].source
    assert source.keys("2024-06-03/L1/000.png") == {"date": "2024-06-03", "lot": "L1", "name": "000.png"}
    assert source.day("2024-06-03/L1/shard.tar", shard=True) == "2024-06-03"


def test_the_runtime_environment_is_valid(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert RuntimeEnv(**read("deploy/runtime_env.yaml"))["working_dir"] == "."


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/rayjob.yaml", "deploy/raycronjob.yaml", "deploy/Dockerfile"])
def test_every_file_names_the_locked_ray(name):
    text = (ROOT / name).read_text()
    named = re.findall(r'(?:rayproject/ray:|rayVersion: ")([0-9.]+[0-9])', text)
    assert named and set(named) == {RAY_VERSION}


@pytest.mark.parametrize(("name", "starts"), [("cluster.yaml", 2), ("deploy/Dockerfile", 1)])
def test_idle_workers_stay_as_long_wherever_ray_is_started(name, starts):
    text = (ROOT / name).read_text()
    found = re.findall(r"RAY_idle_worker_killing_time_threshold_ms=([0-9]+)", text)
    assert found == [str(IDLE_WORKERS_STAY_S * 1000)] * starts
