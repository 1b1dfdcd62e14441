"""A platform engineer's first week: a head with a token, an S3 server, the jobs API, a stopped night, a second one, wrong keys.

The nodes have no credentials of their own; jobs get them by their runtime environment, as docs/operating.md says.
"""

import json
import os
import re
import secrets
import subprocess
import time
import urllib.request

import pytest
import yaml
from docs_script import load
from e2e_archives import ROOT, command, encoded, scores
from ray_head import BIN, NO_KEYS, TOKEN, one_error, one_line, started

from pipeline.state.attempts import read_attempts
from pipeline.state.lease import beat_key
from pipeline.state.ledger import Ledger
from pipeline.storage.copies import upload_directory
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
PATTERN = "{line}/{date}/{lot}/{name}"
FIRST, SECOND = "2026-06-02", "2026-06-03"
IMAGES = 160

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Plant:
    """A bucket with a model and an archive, and a head whose jobs reach it by `runtime_env`."""

    def __init__(self, head, bucket, model, folder):
        self.head, self.url, self.bucket = head, f"http://127.0.0.1:{head.dashboard}", bucket
        upload_directory(model, f"{bucket}/model")
        self.archive, self.output = f"{bucket}/archive", f"{bucket}/results"
        self.ledger = Ledger(self.output, "tiny")
        self.places = ("--model", f"{bucket}/model", "--input", self.archive, "--output", self.output, "--device", "cpu")
        (folder / "night.yaml").write_text("source: {unit_images: 4}\n")
        self.night = (*self.places, "--key-pattern", PATTERN, "--config", folder / "night.yaml")
        environment = yaml.safe_load((ROOT / "deploy" / "runtime_env.yaml").read_text())
        environment["env_vars"] |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self.runtime_env = folder / "runtime_env.yaml"
        self.runtime_env.write_text(yaml.safe_dump(environment))

    def put(self, date, images):
        for name, content in images.items():
            open_store(self.archive).put(f"l1/{date}/{name}", content)

    def ray_job(self, *arguments):
        """Runs `ray job ...`, and repeats it while the head is still starting its job agent."""
        call = [*(BIN / "ray", "job", arguments[0], "--address", self.url), *map(str, arguments[1:])]
        deadline = time.monotonic() + 120
        while True:
            environment = {**os.environ, **TOKEN, "PATH": f"{BIN}:{os.environ['PATH']}"}
            done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
            said = done.stdout + done.stderr
            if "No available agent" not in said or time.monotonic() > deadline:
                return done.returncode, said
            time.sleep(2)

    def submit(self, submission_id, *arguments, wait=True):
        """Submits the job as docs/operating.md shows it; the exit code of `ray job submit` and all that it printed."""
        options = ("--submission-id", submission_id, *(() if wait else ("--no-wait",)), "--runtime-env", self.runtime_env)
        return self.ray_job("submit", *options, "--", "python", "-m", "jobs.score", *(arguments or self.night))

    def asked(self, path):
        """The answer of the jobs API, as docs/operating.md asks for it."""
        headers = {"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/api/jobs/{path}", headers=headers), timeout=60
        ) as answer:
            return json.load(answer)

    def ended(self, submission_id):
        """Status and exit code of a job, by the jobs API."""
        job = self.asked(submission_id)
        return job["status"], job["driver_exit_code"]

    def log(self, submission_id):
        """The lines of the job's driver; before them Ray's job server writes some of its own."""
        before, _, lines = self.asked(f"{submission_id}/logs")["logs"].partition("Running entrypoint for job ")
        return lines.partition("\n")[2].splitlines()


@pytest.fixture
def plant(model, s3_bucket, tmp_path):
    with started(tmp_path, TOKEN | NO_KEYS) as head:
        yield Plant(head, s3_bucket, model, tmp_path)


def without_numbers(log):
    """What a log says, each line without its time and its numbers; lines of progress that follow each other count as one. What
    a key pattern reads is left out, which depends on the archive, and what a busy machine adds while it waits."""
    log = [line for line in log if ": still at work, " not in line]
    log = [line for line in log if not line.partition(" ")[2].startswith(("key pattern ", "  "))]
    shown = [re.sub(r"process \d+ on \S+", "process N", line.partition(" ")[2]) for line in log]
    shown = [re.sub(r"[0-9a-f]*\d[0-9a-f.,:]*", "N", line) for line in shown]
    shown = [re.sub(r"(?<=scoring: N/N images, N%, ).*", "...", line) for line in shown]
    return [line for line, before in zip(shown, ["", *shown], strict=False) if line != before]


def until(condition, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_week(plant, tmp_path):
    plant.put(FIRST, {f"L{number % 4}/{number:03d}.png": encoded(number) for number in range(IMAGES)})

    # Before the first night: doctor, and what is wrong is said before anything is planned.
    places = ("--address", plant.head.address, "--input", plant.archive, "--output", plant.output)
    done = command("doctor", *places, check=False, env=TOKEN)
    assert done.returncode == 2 and "It uses no credentials" in done.stdout, done.stdout + done.stderr
    one_error(
        command("score", *plant.night, "--address", plant.head.address, check=False, env=TOKEN),
        f"cannot list the input {plant.archive}", "It uses no credentials",
    )  # fmt: skip
    wrong = {**TOKEN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    one_line(command("score", *plant.night, "--address", plant.head.address, check=False, env=wrong), "wants another token")
    assert plant.ledger.entries.newest() == 0, "nothing is planned"

    code, said = plant.submit("wrong", *plant.places, "--key-pattern", "{hall}/" + PATTERN)
    assert code == 1 and "key_pattern must be a pattern of the paths" in said, said
    assert plant.ended("wrong") == ("FAILED", 2)
    assert plant.ray_job("status", "wrong")[0] == 0, "it does not say how the job has ended"
    assert plant.log("wrong")[-1].partition(" ")[2].startswith("exit 2: ")

    # The first night is stopped in its midst, in order: Ray kills what has not ended after 3 s.
    assert plant.submit("night-1", wait=False)[0] == 0
    until(lambda: len(list(plant.ledger.commits(3))) > 2 or plant.asked("night-1")["status"] in ENDED)
    assert plant.asked("night-1")["status"] == "RUNNING", plant.log("night-1")
    code, said = plant.ray_job("stop", "night-1")
    assert code == 0, said
    assert plant.ended("night-1") == ("STOPPED", None)
    log = plant.log("night-1")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in log), "a stack of Ray's core"
    assert log[-1].partition(" ")[2].startswith("exit 143: stopped by SIGTERM")
    assert plant.ledger.store.get(beat_key(plant.ledger, 1)) == b"-1", "the lease is given back"
    noted = read_attempts(plant.ledger, 3)

    # Ray refuses the old id; under a new one it goes on where it stopped.
    code, said = plant.submit("night-1")
    assert code == 1 and "night-1 already exists" in said
    code, said = plant.submit("night-1-again")
    assert code == 0, said
    (going,) = [line for line in plant.log("night-1-again") if "going on" in line]
    found = re.search(rf"tiny slice 3: going on, (\d+) of {IMAGES} images are done", going)
    assert found is not None and 0 < int(found[1]) < IMAGES, going
    assert len(scores(plant.output)) == IMAGES
    columns = "attempts, epoch(started_at), spent_s, epoch(finished_at)"
    ((drivers, begun, spent_s, finished),) = (
        open_tables(plant.output).connection.execute(f"select {columns} from runs").fetchall()
    )
    assert drivers == 2 and begun == pytest.approx(noted.started_at.timestamp(), rel=0, abs=1e-3), "of the first driver"
    assert noted.spent_s < spent_s < finished - begun, "of both drivers, without the time between them"

    # The second night, as docs/operating.md prints a good one.
    plant.put(SECOND, {f"L7/{number:03d}.png": encoded(1000 + number) for number in range(24)})
    code, said = plant.submit("night-2")
    assert code == 0 and plant.ended("night-2") == ("SUCCEEDED", 0), said
    log = plant.log("night-2")
    printed = load("make_logs.py").written()["A good night"].replace("tiles", "tiny").replace("s3://plant", plant.bucket)
    assert without_numbers(log) == without_numbers(printed.splitlines()), "\n".join(log)
    assert len(scores(plant.output)) == IMAGES + 24
