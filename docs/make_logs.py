"""Writes the logs of nights into docs/operating.md as they are printed: `make tables` does it, a test fails when one is old.

Each night is a run of `python -m jobs.score` in this process, the stages one after another instead of Ray, and with a fault put
in. What differs from run to run (times, rates, processes, digests) is written as that of one made-up night. Lines
`still at work`, which only a slow machine prints, are left out.
"""

import contextlib
import functools
import io
import itertools
import json
import logging
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from e2e_archives import encoded
from inline_engine import InlineEngine
from tiny_model import tiny_config, tiny_fitted

from jobs import score
from jobs.command.entry import run
from jobs.command.log import RAY_JOB
from models import artifact
from models.config import ArtifactConfig
from models.detector import Detector
from pipeline import slice_scoring
from pipeline.stages import read
from pipeline.stages.cluster import JOINING, Resources
from pipeline.stages.config import StageConfig
from pipeline.stages.joining.node_view import Lack
from pipeline.stages.joining.nodes import Answer, judge
from pipeline.state import attempts, lease
from pipeline.state.ledger import Ledger
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Denied, Unreachable
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

log = logging.getLogger("pipeline.stages.cluster")

HEAD, OTHER = "10.0.0.1:6379", "head-2"
PAGE = Path(__file__).with_name("operating.md")
BLOCK = re.compile(
    r"(^### (?P<title>[^\n]+)\n(?:(?!#|```)[^\n]*\n)*```text\n)(?P<log>(?:(?!```)[^\n]*\n)*)(```\n)", re.MULTILINE
)
PLACES = {"model": "model", "input": "archive", "output": "results"}
STILL = ": still at work, for "
OTHER_PATTERN = "--key-pattern={line}/{lot}/{name}.tif"
DIGESTS = ("3f6c1a0b9d2e", "8d07b2e41fa6")
# By what a line says: seconds between it and the one before.
LASTS = {"took 29 s": 29, "20 s left": 10, "storage does not answer: ": 600, "is driven by another process": 5, "in 3 work": 3}
OF_EACH = ("good", "killed", "stopped", "away", "two", "refused", "node", "pattern", "retrained")
IMAGES = 24
GATEWAY = "s3://plant/archive/a/2026-06-02/L1/016.png: Could not connect to the endpoint URL"
TWO_CORES = Resources(scorers=1, scorer_cpus=1, scorer_gpus=0, threads=2, read_cpus=0.5, commit_cpus=0.25)

Fault = Callable[[int], None]
"""Called with the number of outcomes so far, before the next one."""


class Killed(BaseException):
    """A kill -9, after which nothing is done any more."""


class Engine(InlineEngine):
    """Says what the engine of Ray says, and lets the fault happen."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault, self._joined, self._started = fault, False, False

    def join(self, *_: object) -> None:
        if not self._joined:
            self._joined = True
            log.info(JOINING, HEAD)

    def start(self) -> None:
        self.join()
        if not self._started:
            self._started = True
            print(TWO_CORES.sentence(), flush=True)

    def stream(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        for count, outcome in enumerate(super().stream(items, config)):
            yield outcome
            self._fault(count + 1)


def nothing(count: int) -> None:
    """The fault of a good night."""


def kill(count: int) -> None:
    raise Killed


def stop(count: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Plant:
    """A model, an archive of one night and an output, in a folder."""

    def __init__(self, folder: Path, damaged: int = 0) -> None:
        self.folder = folder
        config, detector = fitted()
        artifact.save(folder / "model", config, detector, "# card\n")
        for number in range(IMAGES):
            path = folder / "archive" / f"a/2026-06-02/L1/{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = encoded(number)
            path.write_bytes(content[: len(content) // 2] if number < damaged else content)
        (folder / "config.yaml").write_text("source: {unit_images: 8}\nlimits: {outage_s: 0.05}\n")

    def night(self, fault: Fault = nothing, *options: str) -> str:
        """The log of one command, as a job of Ray has it."""
        printed = io.StringIO()
        places = [f"--{flag}={self.folder / name}" for flag, name in PLACES.items()]
        arguments = [*places, "--key-pattern={line}/{date}/{lot}/{name}", f"--config={self.folder / 'config.yaml'}", *options]
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, {RAY_JOB: "{}"}))
            stack.enter_context(mock.patch.object(read, "decode_in_child", read.decode_in_child))  # the engine replaces it
            stack.enter_context(mock.patch.object(score, "RayEngine", lambda *_: Engine(fault)))
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(contextlib.redirect_stderr(printed))
            with contextlib.suppress(SystemExit, Killed):
                run(score.main, arguments)
        return as_of_one_night(printed.getvalue(), {f"file://{self.folder}": "s3://plant", str(self.folder): "s3://plant"})


@functools.cache
def fitted() -> tuple[ArtifactConfig, Detector]:
    config = tiny_config(name="tiles")
    return config, tiny_fitted(config)


def logs() -> dict[str, str]:
    """The log of each kind of night, by its title on the page."""
    with tempfile.TemporaryDirectory(prefix="flowscore-logs-") as name:
        folder = Path(name)
        plants = {of: Plant(folder / of) for of in OF_EACH}
        plants["held"] = Plant(folder / "held", damaged=3)
        return {
            "A good night": plants["good"].night(),
            "The night after a kill": after_a_kill(plants["killed"]),
            "A night that was stopped": plants["stopped"].night(stop),
            "A held slice, exit 3": plants["held"].night(nothing, "--min-errors=1"),
            "Storage is away, exit 5": storage_away(plants["away"]),
            "Another command has the model, exit 5": two_at_once(plants["two"]),
            "A bucket that refuses, exit 2": refused(plants["refused"]),
            "A node that lacks credentials, exit 2": node_lacks(plants["node"]),
            "A key pattern that fits nothing, exit 2": plants["pattern"].night(
                nothing, "--key-pattern={line}/{lot}/{name}.tif"
            ),
            "A model that was trained again, exit 2": retrained(plants["retrained"]),
        }


def after_a_kill(plant: Plant) -> str:
    with (
        mock.patch.object(lease.Lease, "__exit__", stopped_beat),
        mock.patch.object(attempts.Attempt, "__exit__", stopped_notes),
    ):
        plant.night(kill)
    with mock.patch.object(lease, "_started", lambda pid: None):  # the process of that number is gone
        return plant.night()


def stopped_beat(self: lease.Lease, *error: object) -> None:
    self._stop.set()


def stopped_notes(self: attempts.Attempt, *error: object) -> None:
    self._ended.set()
    self._thread.join()


def storage_away(plant: Plant) -> str:
    """From the first outcome on storage answers nothing."""
    away: list[int] = []
    listing, streaming = LocalStore.list, Engine.stream

    def list_none(self, *arguments, **options):
        if away:
            raise Unreachable(GATEWAY)
        return listing(self, *arguments, **options)

    def read_none(self, items, config):
        for outcome in streaming(self, items, config):
            yield Outcome(outcome.number, outcome.part, message=GATEWAY) if away else outcome

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(LocalStore, "list", list_none))
        stack.enter_context(mock.patch.object(Engine, "stream", read_none))
        stack.enter_context(mock.patch.object(slice_scoring, "ASK_AGAIN_S", 0.1))
        return plant.night(away.append).replace("up to 0 s", "up to 600 s")


def refused(plant: Plant) -> str:
    def refuse(self, *arguments, **options):
        raise Denied(f"{self.uri}/: AccessDenied (403)")
        yield

    with mock.patch.object(LocalStore, "list", refuse):
        return plant.night()


def two_at_once(plant: Plant) -> str:
    """A driver on another machine goes on beating."""
    plant.night()
    held = lease.epochs(Ledger(str(plant.folder / "results"), "tiles"))
    held.put_new(held.newest() + 1, json.dumps({"host": OTHER, "boot": "", "pid": 4242, "started": 0}).encode())
    beats = itertools.count()
    with (
        mock.patch.object(lease.Lease, "_counter", lambda self, epoch: next(beats)),
        mock.patch.object(lease, "BEAT_S", 0.01),
    ):
        return plant.night()


def node_lacks(plant: Plant) -> str:
    lack = Lack("list the input", "s3://plant/archive", "AccessDenied (403)", "no credentials, endpoint AWS's")

    def asked(self: Engine, *_: object) -> None:
        log.info(JOINING, HEAD)
        judge([Answer("node 10.0.0.7 (f3a91c02)", [lack])], lambda: [])

    with mock.patch.object(Engine, "join", asked):
        return plant.night()


def retrained(plant: Plant) -> str:
    plant.night()
    config = tiny_config(name="tiles")
    artifact.save(plant.folder / "model-2", config, tiny_fitted(config, count=9), "# card\n")
    shutil.rmtree(plant.folder / "model")
    (plant.folder / "model-2").rename(plant.folder / "model")
    return plant.night()


def as_of_one_night(printed: str, places: dict[str, str]) -> str:
    """The log with the times, rates, processes, digests and places of a made-up night."""
    for here, there in places.items():
        printed = printed.replace(here, there)
    shown = dict(zip(dict.fromkeys(re.findall(r"digest ([0-9a-f]{12})", printed)), DIGESTS, strict=False))
    printed = re.sub(r"digest ([0-9a-f]{12})", lambda found: f"digest {shown[found[1]]}", printed)
    printed = re.sub(rf"process \d+ on (?!{OTHER})[^\s,;]+", "process 4711 on head-1", printed)
    printed = printed.replace("the last command, process 4711", "the last command, process 4242")
    printed = re.sub(r"[\d.,]+ images/s", "0.8 images/s", printed)
    printed = re.sub(r"took \d+ s", "took 29 s", printed)
    printed = re.sub(r"\d+ s left", "20 s left", printed)
    lines = [line.partition(" ")[2] for line in printed.splitlines() if STILL not in line]
    at, stamped = datetime(2026, 6, 3, 1, 30, 7), ""
    for line in lines:
        at += timedelta(seconds=next((seconds for said, seconds in LASTS.items() if said in line), 1))
        stamped += f"{at:%Y-%m-%dT%H:%M:%SZ} {line}\n"
    return stamped


def written() -> dict[str, str]:
    """The logs on the page."""
    return {found["title"]: found["log"] for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


def page(made: dict[str, str]) -> str:
    """The page with these logs."""
    return BLOCK.sub(lambda found: found[1] + made[found["title"]] + found[4], PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(logs()), encoding="utf-8")
