"""The scoring job is submitted to a Ray head over its job API, with the same entry point as on one machine."""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from e2e_archives import ROOT, encoded, scores, write_files

BIN = Path(sys.executable).parent
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    **TOKEN,
    "PATH": f"{BIN}:{os.environ['PATH']}",
}


def free_ports(count):
    """Different ports on which nothing listens."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """Address of a Ray head that is started for this test and ends with its process."""
    gcs, dashboard, client, agent = free_ports(4)
    folder = tmp_path_factory.mktemp("ray")
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=300000000"),
                *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
                f"--dashboard-agent-listen-port={agent}",
                *("--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"),
            ],
            env=ENVIRONMENT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(dashboard):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()  # SIGINT would be ignored if the tests run in a shell's background
        for left in psutil.wait_procs(family[1:], timeout=20)[1]:
            left.kill()
        process.wait(timeout=60)


def answers(port):
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0


def submit(head, submission_id, *arguments):
    """Runs `ray job submit` as docs/operating.md shows it, and repeats it while the head is still starting its job agent."""
    command = [
        *(BIN / "ray", "job", "submit", "--address", head, "--submission-id", submission_id),
        *("--runtime-env", "deploy/runtime_env.yaml", "--", "python", "-m", "jobs.score", *map(str, arguments)),
    ]
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
        said = done.stdout + done.stderr
        if "No available agent" not in said or time.monotonic() > deadline:
            return done.returncode, said
        time.sleep(2)


def test_a_submitted_job_scores_the_archive_and_its_end_is_told(head, model, tmp_path):
    images = {f"a/2024-06-03/L1/{number:03d}.png": encoded(number) for number in range(24)}
    write_files(tmp_path / "in", images)
    arguments = ("--model", model, "--input", tmp_path / "in", "--output", tmp_path / "out")
    code, said = submit(head, "night-1", *arguments, "--key-pattern", "{line}/{date}/{lot}/{name}")
    assert code == 0, said
    assert "published slice 3: 24 scored" in said  # entries 1 and 2 create the ledger and promote the model
    assert len(scores(tmp_path / "out")) == len(images)

    code, said = submit(head, "night-1", *arguments)
    assert code != 0 and "night-1 already exists" in said

    code, said = submit(head, "night-2", "--model", tmp_path / "none", *arguments[2:])
    assert code != 0 and "error: model must be" in said and "exit code 2" in said
