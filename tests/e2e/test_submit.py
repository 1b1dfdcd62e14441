"""The scoring job is submitted to a Ray head over its job API, with the same entry point as on one machine."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from docs_script import load
from e2e_archives import ROOT, encoded, scores, write_files

from pipeline.state.attempts import read_attempts
from pipeline.state.lease import beat_key
from pipeline.state.ledger import Ledger
from pipeline.tables.query import open_tables

BIN = Path(sys.executable).parent
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
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


def ray_job(head, *arguments):
    """Runs `ray job ...`, and repeats it while the head is still starting its job agent."""
    command = [*(BIN / "ray", "job", arguments[0], "--address", head), *map(str, arguments[1:])]
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
        said = done.stdout + done.stderr
        if "No available agent" not in said or time.monotonic() > deadline:
            return done.returncode, said
        time.sleep(2)


def submit(head, submission_id, *arguments, wait=True):
    """Submits the job as docs/operating.md shows it."""
    options = ("--submission-id", submission_id, *(() if wait else ("--no-wait",)), "--runtime-env", "deploy/runtime_env.yaml")
    return ray_job(head, "submit", *options, "--", "python", "-m", "jobs.score", *arguments)


def asked(head, path):
    """The answer of the jobs API, as docs/operating.md asks for it."""
    request = urllib.request.Request(f"{head}/api/jobs/{path}", headers={"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def log_of(head, submission_id):
    """The lines of the job's driver; before them Ray's job server writes some of its own."""
    before, _, lines = asked(head, f"{submission_id}/logs")["logs"].partition("Running entrypoint for job ")
    return lines.partition("\n")[2].splitlines()


def until(condition, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def without_numbers(log):
    """What a log says, each line without its time and its numbers; lines of progress that follow each other count as one."""
    shown = [re.sub(r"process \d+ on \S+", "process N", line.partition(" ")[2]) for line in log]
    shown = [re.sub(r"[0-9a-f]*\d[0-9a-f.,:]*", "N", line) for line in shown]
    shown = [re.sub(r"(?<=scoring: N/N images, N%, ).*", "...", line) for line in shown]
    return [line for line, before in zip(shown, ["", *shown], strict=False) if line != before]


def test_a_submitted_job_scores_the_archive_and_its_end_is_told(head, model, tmp_path):
    images = {f"a/2026-06-02/L1/{number:03d}.png": encoded(number) for number in range(24)}
    write_files(tmp_path / "archive", images)
    arguments = ("--model", model, "--input", tmp_path / "archive", "--output", tmp_path / "results")
    code, said = submit(head, "night-1", *arguments, "--key-pattern", "{line}/{date}/{lot}/{name}")
    assert code == 0, said
    assert "published slice 3: 24 scored" in said  # entries 1 and 2 create the ledger and promote the model
    assert len(scores(tmp_path / "results")) == len(images)
    log, logs = log_of(head, "night-1"), load("make_logs.py")
    printed = logs.written()["A good night"].replace("tiles", "tiny").replace("s3://plant", f"file://{tmp_path}")
    assert without_numbers(log) == without_numbers(printed.splitlines()), "\n".join(log)
    assert log[-1].endswith("exit 0: done")

    code, said = submit(head, "night-1", *arguments)
    assert code != 0 and "night-1 already exists" in said

    code, said = submit(head, "night-2", "--model", tmp_path / "none", *arguments[2:])
    assert code == 1 and "error: model must be" in said and "exit code 2" in said
    assert ray_job(head, "status", "night-2")[0] == 0, "it does not say how the job has ended"
    job = asked(head, "night-2")
    assert (job["status"], job["driver_exit_code"]) == ("FAILED", 2)
    last = log_of(head, "night-2")[-1]
    assert last.partition(" ")[2].startswith("exit 2: ") and last.endswith("(give the job a new submission id)")


def test_a_stopped_job_ends_in_order_and_goes_on_under_another_id(head, model, tmp_path):
    """Ray kills what has not ended 3 s after `ray job stop`: then there is no last line, and the lease is not given back."""
    write_files(tmp_path / "in", {f"{number:04d}.png": encoded(number) for number in range(200)})
    (tmp_path / "config.yaml").write_text("source: {unit_images: 4}\n")
    places = ("--model", model, "--input", tmp_path / "in", "--output", tmp_path / "out")
    arguments = (*places, "--config", tmp_path / "config.yaml")
    ledger = Ledger(str(tmp_path / "out"), "tiny")
    assert submit(head, "stopped", *arguments, wait=False)[0] == 0
    until(lambda: len(list(ledger.commits(3))) > 2 or asked(head, "stopped")["status"] in ENDED)
    assert asked(head, "stopped")["status"] == "RUNNING", log_of(head, "stopped")
    code, said = ray_job(head, "stop", "stopped")
    assert code == 0, said
    job = asked(head, "stopped")
    assert (job["status"], job["driver_exit_code"]) == ("STOPPED", None)
    log = log_of(head, "stopped")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in log), "a stack of Ray's core"
    assert log[-1].partition(" ")[2].startswith("exit 143: stopped by SIGTERM")
    assert ledger.store.get(beat_key(ledger, 1)) == b"-1", "the lease is given back"
    noted = read_attempts(ledger, 3)

    code, said = submit(head, "goes-on", *arguments)
    assert code == 0, said
    (going,) = [line for line in log_of(head, "goes-on") if "going on" in line]
    done = re.search(r"tiny slice 3: going on, (\d+) of 200 images are done", going)
    assert done is not None and 0 < int(done[1]) < 200, going
    assert len(scores(tmp_path / "out")) == 200
    columns = "attempts, epoch(started_at), spent_s, epoch(finished_at)"
    asked_of = open_tables(str(tmp_path / "out")).connection.execute(f"select {columns} from runs")
    ((drivers, started, spent_s, finished),) = asked_of.fetchall()
    assert drivers == 2 and started == pytest.approx(noted.started_at.timestamp(), rel=0, abs=1e-3), "of the first driver"
    assert noted.spent_s < spent_s < finished - started, "of both drivers, without the time between them"
