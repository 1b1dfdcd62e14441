"""Check this machine, the storage, a model and the tables, and say how to mend what is wrong."""

import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import typer
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import ExitCode, UsageError
from jobs.command.flags import Flag
from jobs.command.model_folder import model_folder
from jobs.command.places import check_input
from jobs.examined.finding import Finding
from jobs.examined.state import state
from jobs.examined.tables import tables
from pipeline.input.config import SourceConfig
from pipeline.stages.cluster import start_ray
from pipeline.stages.cluster_address import NoCluster, check_cluster
from pipeline.stages.joining.facts import ClusterFacts
from pipeline.stages.joining.nodes import NodeLacks, Nodes
from pipeline.storage.objects import StorageError
from pipeline.storage.store import check_conditional_put, open_store

GIB = 1 << 30
LEAST_MEMORY = 4 * GIB
LEAST_SHARED_MEMORY = 2 * GIB
LEAST_DISK = 10 * GIB


class DoctorSettings(BaseModel):
    """Settings of `flowscore doctor`; it checks only the places that are given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Flag[str | None] = Field(None, description="images that a job is to read: a path or s3://bucket/prefix")
    output: Flag[str | None] = Field(None, description="where tables and run state live: a path or s3://")
    model: Flag[str | None] = Field(None, description="directory of a trained model, local or s3://")
    address: Flag[str | None] = Field(None, description="Ray cluster that jobs join; default: RAY_ADDRESS, else this machine")
    cache_dir: Flag[Path] = Field(Path("~/.cache/flowscore"), description="where a remote model is copied to")


def main(settings: DoctorSettings) -> None:
    checks: list[Callable[[], Iterator[Finding]]] = [python, libraries, machine, gpu, lambda: ray(settings.address)]
    if (source := settings.input) is not None:
        checks.append(lambda: readable(source))
    if (output := settings.output) is not None:
        checks += [lambda: writable(output), lambda: tables(output), lambda: state(output)]
    if source is not None and output is not None:
        checks.append(lambda: nodes(settings.address, source, output))
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


def ray(address: str | None) -> Iterator[Finding]:
    """Checks that Ray loads, and that the cluster can be joined that a job would join."""
    try:
        import ray.data
    except ImportError as error:
        yield Finding("fail", "ray", f"cannot be imported: {error}", "pip install --require-hashes -r requirements.lock")
        return
    here = f"{ray.__version__} on Python {platform.python_version()}"
    try:
        cluster = check_cluster(address)
    except NoCluster as error:
        yield Finding("fail", "ray", str(error), "Jobs fail until then.")
        return
    if cluster is None:
        yield Finding("ok", "ray", f"{here}; jobs start it on this machine")
        return
    yield Finding("ok", "ray", f"{here}; jobs join {cluster.address}")
    yield _cluster(cluster.facts)


def _cluster(facts: ClusterFacts) -> Finding:
    there = f"Ray {facts.ray or 'of a version that it does not say'} on Python {facts.python or '?'}"
    nodes = facts.nodes
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    text = f"{there}; {len(nodes)} node(s) with {cpus:g} CPUs and {gpus:g} GPUs"
    fix = "" if cpus else "A job waits until an autoscaler brings nodes. Without one, start nodes that have CPUs."
    return Finding("warn" if fix else "ok", "cluster", text, fix)


def nodes(address: str | None, source: str, output: str) -> Iterator[Finding]:
    """Has every node of the cluster try what its workers will need; nothing where Ray would start on this machine."""
    try:
        if check_cluster(address) is None:
            return
    except NoCluster:  # `ray` has said it
        return
    try:
        start_ray(address)
        asked = Nodes(SourceConfig(input_uri=open_store(source).uri), open_store(output).uri, "_flowscore/doctor").check()
    except (NoCluster, NodeLacks, StorageError) as error:
        yield Finding("fail", "nodes", str(error), "Jobs end with exit 2 until then.")
        return
    yield Finding("ok", "nodes", f"{asked} can list and read the input, and list, read and write the output")


def readable(uri: str) -> Iterator[Finding]:
    """Lists the input once."""
    started = time.monotonic()
    try:
        check_input("--input", uri)
        store = open_store(uri)
        first = next(iter(store.list()), None)
        links = store.links_left_out() if first is None else 0
    except UsageError as error:
        yield Finding("fail", "input", str(error))
        return
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


def artifact(uri: str, cache_dir: Path) -> Iterator[Finding]:
    """Recomputes the model's digests over its bytes."""
    from models.artifact import ArtifactError, read
    from models.calibration import files
    from models.calibration.promises import headline

    try:
        opened = read(model_folder(uri, cache_dir))
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
