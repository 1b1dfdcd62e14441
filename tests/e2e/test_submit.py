"""The scoring job submitted to a Ray head over its job API: the same entry point as on one machine."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e_archives import ROOT, encoded, scores, write_files
from ray.job_submission import JobStatus, JobSubmissionClient

BIN = Path(sys.executable).parent


def free_ports(count):
    """Ports that nothing listens on, all different."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A Ray head of this test's own, started by `ray start --block` and ended by its process."""
    gcs, dashboard, client = free_ports(3)
    scratch = tmp_path_factory.mktemp("ray", numbered=False)
    log = (tmp_path_factory.mktemp("log") / "head.log").open("w")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [
            *(BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=300000000"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
            *("--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"),
            f"--temp-dir={scratch}",
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{dashboard}"
    deadline = time.monotonic() + 120
    while not _answers(address):
        assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
        time.sleep(0.5)
    yield address
    process.terminate()
    process.wait(timeout=60)


def _answers(address):
    try:
        JobSubmissionClient(address)
    except (ConnectionError, RuntimeError):
        return False
    return True


def submit(head, submission_id, *arguments):
    """`ray job submit` as docs/operating.md shows it, with this machine's checkout as the code."""
    return subprocess.run(
        [
            *(BIN / "ray", "job", "submit", "--address", head, "--submission-id", submission_id),
            *("--working-dir", "."),
            *("--runtime-env-json", json.dumps({"excludes": [".git", ".venv", "demo-output", "tests"]})),
            *("--", "python", "-m", "jobs.score", *map(str, arguments)),
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_a_submitted_job_scores_the_archive_and_its_exit_code_arrives(head, model, tmp_path):
    images = {f"a/2024-06-03/L1/{number:03d}.png": encoded(number) for number in range(24)}
    write_files(tmp_path / "in", images)
    arguments = ("--model", model, "--input", tmp_path / "in", "--output", tmp_path / "out")
    done = submit(head, "night-1", *arguments, "--key-pattern", "{line}/{date}/{lot}/{name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(scores(tmp_path / "out")) == len(images)

    again = submit(head, "night-1", *arguments)
    assert again.returncode != 0 and "night-1 already exists" in again.stdout + again.stderr

    wrong = submit(head, "night-2", "--model", tmp_path / "none", "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert wrong.returncode != 0
    details = JobSubmissionClient(head).get_job_info("night-2")
    assert details.status == JobStatus.FAILED and details.driver_exit_code == 2
