"""Check this machine, the storage, a model and the tables, and say how to mend what is wrong."""

import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import psutil
import typer
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import ExitCode
from jobs.command.flags import Flag
from pipeline.stages.cluster_address import NoCluster, check_cluster
from pipeline.state.lease import epochs
from pipeline.state.ledger import Ledger, OtherLayout, ledgers
from pipeline.state.plan import read_state
from pipeline.state.publications import Publications
from pipeline.state.tally import read_tally
from pipeline.state.unclosed import unclosed
from pipeline.storage.copies import local_copy
from pipeline.storage.objects import StorageError
from pipeline.storage.store import check_conditional_put, open_store

GIB = 1 << 30
LEAST_MEMORY = 4 * GIB
LEAST_SHARED_MEMORY = 2 * GIB
LEAST_DISK = 10 * GIB
MANY_SPARE = 1000
"""Files of a table above which a query takes longer than a second."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is empty if all is well."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5}{self.subject:<11}{self.text}" + (f"\n{'':<16}{self.fix}" if self.fix else "")


class DoctorSettings(BaseModel):
    """Settings of `flowscore doctor`; it checks only the places that are given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Flag[str | None] = Field(None, description="images that a job is to read: a path or s3://bucket/prefix")
    output: Flag[str | None] = Field(None, description="where tables and run state live: a path or s3://")
    model: Flag[str | None] = Field(None, description="directory of a trained model, local or s3://")
    cache_dir: Flag[Path] = Field(Path("~/.cache/flowscore"), description="where a remote model is copied to")


def main(settings: DoctorSettings) -> None:
    checks: list[Callable[[], Iterator[Finding]]] = [python, libraries, machine, gpu, ray]
    if (source := settings.input) is not None:
        checks.append(lambda: readable(source))
    if (output := settings.output) is not None:
        checks += [lambda: writable(output), lambda: tables(output), lambda: state(output)]
    if (model := settings.model) is not None:
        checks.append(lambda: artifact(model, settings.cache_dir.expanduser()))
    failed = 0
    for check in checks:
        for finding in check():
            failed += finding.level == "fail"
            print(finding, flush=True)
    if failed:
        raise typer.Exit(ExitCode.USAGE)


def python() -> Iterator[Finding]:
    """Checks the version of the interpreter that runs this."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = "" if supported else "flowscore needs Python 3.11, 3.12 or 3.13."
    yield Finding("ok" if supported else "fail", "python", f"{platform.python_version()} at {sys.executable}", fix)


def libraries() -> Iterator[Finding]:
    """Compares installed versions with those that the distribution requires."""
    try:
        wanted = [Requirement(line) for line in requires("flowscore") or []]
    except PackageNotFoundError:
        yield Finding("fail", "libraries", "flowscore is not installed", "Run `make test`, or `pip install -e .` here.")
        return
    shown = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding("fail", "libraries", f"{requirement.name} is missing", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield Finding("fail", "libraries", f"{requirement.name} is {found}", f"pip install '{requirement}'")
        shown.append(f"{requirement.name} {found}")
    yield Finding("ok", "libraries", f"{len(shown)} found: {', '.join(shown)}")


def machine() -> Iterator[Finding]:
    """Checks cores, memory, shared memory and disk of this machine."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
    fix = "" if cores and cores > 1 else "Reading, decoding and scoring take turns on one core; two or more are better."
    yield Finding("warn" if fix else "ok", "cores", f"{cores}", fix)
    free = psutil.virtual_memory().available
    fix = "" if free >= LEAST_MEMORY else "Ray, a model and its workers need 4 GiB: stop something or use a larger machine."
    yield Finding("warn" if fix else "ok", "memory", f"{free / GIB:.1f} GiB available", fix)
    for subject, path, least, advice in (
        ("shm", Path("/dev/shm"), LEAST_SHARED_MEMORY, "Ray may keep objects on disk instead: docker run --shm-size=8g."),
        ("disk", Path("/tmp"), LEAST_DISK, "Ray keeps sessions and spilled objects there: free some space."),
    ):
        if path.is_dir():
            space = shutil.disk_usage(path).free
            fix = "" if space >= least else advice
            yield Finding("warn" if fix else "ok", subject, f"{space / GIB:.1f} GiB free in {path}", fix)


def gpu() -> Iterator[Finding]:
    """Names the devices that torch can use."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            yield Finding("ok", "gpu", f"{device.name}, {device.total_memory / GIB:.0f} GiB")
    elif shutil.which("nvidia-smi"):
        fix = "Run nvidia-smi: the driver must be as new as the CUDA version that torch was built for."
        yield Finding("warn", "gpu", f"torch {torch.__version__} finds none, although nvidia-smi is installed", fix)
    else:
        yield Finding("ok", "gpu", "none; models run on the CPU")


def ray() -> Iterator[Finding]:
    """Checks that Ray loads, and names the cluster that a job would join."""
    try:
        import ray.data
    except ImportError as error:
        yield Finding("fail", "ray", f"cannot be imported: {error}", "pip install --require-hashes -r requirements.lock")
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        check_cluster(None)
    except NoCluster as error:
        yield Finding("fail", "ray", str(error), "Jobs fail until then.")
        return
    yield Finding("ok", "ray", f"{ray.__version__}; jobs " + (f"join {address}" if address else "start it on this machine"))


def readable(uri: str) -> Iterator[Finding]:
    """Lists the input once."""
    started = time.monotonic()
    try:
        store = open_store(uri)
        first = next(iter(store.list()), None)
        links = store.links_left_out() if first is None else 0
    except StorageError as error:
        yield Finding("fail", "input", str(error), "Check the address, AWS_ENDPOINT_URL, AWS_PROFILE and the bucket policy.")
        return
    if links:
        fix = "Give train and score --follow-links, or copy the files that they lead to."
        yield Finding("warn", "input", f"{uri} holds only links that are not followed, {links:,} of them", fix)
        return
    if first is None:
        yield Finding("warn", "input", f"{uri} holds no objects", "Check the prefix: it must exist and hold files.")
        return
    yield Finding("ok", "input", f"{uri}: first object {first.key}, after {time.monotonic() - started:.2f} s")


def writable(uri: str) -> Iterator[Finding]:
    """Makes two conditional puts and a delete under the output."""
    try:
        check_conditional_put(open_store(uri), f"_flowscore/doctor/{uuid.uuid4().hex}")
    except StorageError as error:
        yield Finding("fail", "output", str(error), "Jobs must list, get, put and delete there, with If-None-Match.")
        return
    yield Finding("ok", "output", f"{uri}: supports conditional puts")


def tables(uri: str) -> Iterator[Finding]:
    """Checks protocol and retention of the Delta tables under the output."""
    from pipeline.tables.compaction import spare
    from pipeline.tables.delta import RETENTION, RETENTION_DAYS, TABLES, open_table
    from pipeline.tables.files import data_files

    wanted = ", ".join(f"{key} '{interval}'" for key, interval in RETENTION.items())
    for name in TABLES:
        try:
            table = open_table(uri, name)
        except StorageError as error:
            yield Finding("fail", "tables", f"{name}: {error}", "Check the output's address and credentials.")
            return
        if table is None:
            continue
        protocol, properties = table.protocol(), table.metadata().configuration
        files = data_files(table)
        text = f"{name}: version {table.version()}, reader {protocol.min_reader_version}, {len(files):,} files"
        kept = {key: properties.get(key) for key in RETENTION}
        if protocol.min_reader_version > 1:
            fix = "Some readers cannot open it. Another program raised its protocol; the table's history names it."
            yield Finding("fail", "tables", text, fix)
        elif kept != RETENTION:
            fix = f"Rollback needs {RETENTION_DAYS} days: set the properties back to {wanted}."
            yield Finding("warn", "tables", f"{text}, {', '.join(f'{key} {kept[key]!r}' for key in kept)}", fix)
        elif (left := spare(files)) > MANY_SPARE:
            fix = f"`flowscore finalize --output {uri} --compact` merges small ones, and queries get faster."
            yield Finding("warn", "tables", f"{text}, {left:,} more than are needed", fix)
        else:
            yield Finding("ok", "tables", f"{text}, rollback window {RETENTION_DAYS} days")


def state(uri: str) -> Iterator[Finding]:
    """Says what every model has scored there, which slices wait and why, and which publications are not complete."""
    try:
        yield from _publications(uri)
        for ledger in ledgers(uri):
            yield from _ledger(ledger)
    except (StorageError, OtherLayout) as error:
        yield Finding("fail", "state", str(error), "Check the output's address and credentials.")


def _publications(uri: str) -> Iterator[Finding]:
    publications = Publications(uri)
    seal, written = publications.last_seal(), publications.manifests.newest()
    when = f", the last at {seal.sealed_at}" if seal.number else ""
    if written > seal.number:
        fix = "Any `flowscore score` or `flowscore finalize` completes it; nobody sees half of it meanwhile."
        yield Finding("warn", "tables", f"publication {written} is written and not complete; {seal.number} are{when}", fix)
    else:
        yield Finding("ok", "tables", f"{seal.number} publications{when}")


def _ledger(ledger: Ledger) -> Iterator[Finding]:
    head = read_state(ledger)[1]
    closed = Publications(ledger.output_uri).last_seal().closed(ledger.model)
    models = ", ".join(f"{each.digest[:12]} from {each.from_day or 'entry ' + str(each.number)}" for each in head.promotions)
    last = f", last day {head.last_day}" if head.last_day else ""
    yield Finding("ok", "model", f"{ledger.model}: published up to slice {closed.through}{last}; scored by {models or 'none'}")
    if head.rekeyed > closed.rekeyed:
        text = f"{ledger.model}: a rekey to {head.key_pattern} was stopped; rows still have the columns of the pattern before"
        yield Finding("warn", "model", text, "Repeat `flowscore rekey`, or let the next `flowscore score` finish it.")
    for number in unclosed(ledger, closed):
        tally = read_tally(ledger, number)
        if tally is None:
            text = f"{ledger.model}: slice {number} has work units that are not scored; {_driver(ledger)}"
            yield Finding("warn", "model", text, "Repeat `flowscore score`; it goes on where it stopped.")
        else:
            reasons = ", ".join(
                f"{count:,} {error}" for error, count in sorted(tally.reasons.items(), key=lambda one: -one[1])[:5]
            )
            counts = f"{tally.scored:,} scored, errors: {reasons or 'none'}"
            text = f"{ledger.model}: slice {number} is scored and not published: {counts}"
            fix = (
                "Mend the images and repeat `flowscore score`, or publish it as it is: "
                f"flowscore finalize --output {ledger.output_uri} --model {ledger.model} --slice {number} --accept-errors"
            )
            yield Finding("warn", "model", text, fix)


def _driver(ledger: Ledger) -> str:
    epoch = epochs(ledger).newest()
    if not epoch:
        return "no driver yet"
    holder = json.loads(epochs(ledger).get(epoch))
    return f"driver {epoch} was process {holder['pid']} on {holder['host']}"


def artifact(uri: str, cache_dir: Path) -> Iterator[Finding]:
    """Recomputes the model's digests over its bytes."""
    from models.artifact import ArtifactError, read
    from models.calibration import files
    from models.calibration.promises import headline

    try:
        opened = read(local_copy(uri, cache_dir))
        calibration = files.read(opened)
    except (ArtifactError, StorageError) as error:
        yield Finding("fail", "model", str(error), "Copy the model directory again, or train again.")
        return
    config, size = opened.config, f"{opened.config.input.height}x{opened.config.input.width}"
    calibrated = "not calibrated: raw scores, no verdicts" if calibration is None else headline(calibration)
    network = config.backbone.name if config.backbone else "its own encoder"
    text = f"{config.name}: {config.detector} on {network}, {size}, digest {opened.model_digest[:12]}, {calibrated}"
    yield Finding("ok", "model", text)


if __name__ == "__main__":
    run(main)
