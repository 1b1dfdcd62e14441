"""Where a training works: in scratch, or in a folder of --workspace that a repeat of an interrupted command finds again."""

import errno
import fcntl
import hashlib
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch

from jobs.command.errors import UsageError, is_full_disk
from jobs.command.progress import Progress
from jobs.settings.training import TrainSettings
from models.canonical_json import canonical_json
from models.detector import Detector, FitRun
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing, open_input
from pipeline.scoring.device import Device, hardware
from schemas.version import VERSION

PREFIX = "flowscore-train-"
IMAGES = "good"
READ = f"{IMAGES}.state"
"""What says, in the folder, that all images are read; before that there is nothing to go on from."""
NOT_DECIDING = {"model_out", "workspace", "name", "device", "exclude", "overwrite", "roi"}
"""Settings that may differ in the repeated command; the device that is chosen, the lines of --exclude and the mask count."""
LAYOUT = 2
"""Raised by every change of what is kept, or of how it is made: an older folder is then told and not used."""
LIBRARIES = ("torch", "timm", "numpy", "scipy", "torchvision", "Pillow")


class Workspace(NamedTuple):
    """identity: of all that decides the images, features and training; None if nothing is kept."""

    folder: Path
    identity: str | None

    def identity_with(self, content_hashes: Sequence[str]) -> str | None:
        """The identity with the contents of the images that were read."""
        return None if self.identity is None else _digest([self.identity, *content_hashes])


@contextmanager
def opened(settings: TrainSettings, detector: Detector, run: FitRun, device: Device) -> Iterator[Workspace]:
    """A folder for the training. Scratch is deleted in the end; a folder of --workspace only when the training has succeeded.

    A KeyboardInterrupt gets a note if the folder stays. Raises UsageError if another process uses the folder, or it is full.
    """
    if settings.workspace is None:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
            yield Workspace(Path(scratch), None)
        return
    with Progress("looking for what is kept of the same training", total=None):
        identity = _identity(settings, detector, run, device)
    folder = settings.workspace / f"{PREFIX}{identity[:16]}"
    others = [path for path in settings.workspace.glob(f"{PREFIX}*") if path != folder]
    if others:
        print(
            f"not used: {len(others)} of other images, settings, versions or machines in {settings.workspace}, such as "
            f"{others[0].name}; delete what nobody goes on with"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            fix = "Wait for its end, or choose another folder."
            raise UsageError("--workspace", "used by one training at a time", str(folder), fix) from error
        try:
            yield Workspace(folder, identity)
        except BaseException as error:
            if not (folder / READ).exists():
                shutil.rmtree(folder)
            elif isinstance(error, KeyboardInterrupt):
                error.add_note("the same command goes on where this one stopped")
            if isinstance(error, OSError) and is_full_disk(error):
                fix = f"{error.strerror}. Make room there and at --model-out; the same command then goes on."
                raise UsageError("--workspace", "a folder on a disk with room", str(settings.workspace), fix) from error
            raise
        shutil.rmtree(folder)


def _identity(settings: TrainSettings, detector: Detector, run: FitRun, device: Device) -> str:
    document = {
        "flowscore": VERSION,
        "layout": LAYOUT,
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "machine": [hardware(device), _processor(), torch.get_num_threads()],
        "settings": settings.model_dump(mode="json", exclude=NOT_DECIDING),
        "exclude": None if settings.exclude is None else hashlib.sha256(settings.exclude.read_bytes()).hexdigest(),
        "detector": detector.config.model_dump(mode="json", exclude={"name"}),
        "weights": _weights(detector),
        "training": run.training.model_dump(mode="json"),
    }
    return _digest(chain([canonical_json(document)], _listed(settings.source_of_input())))


def _processor(told: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the CPU: two with the same instructions may still add in another order."""
    names = re.search(r"^model name\s*:\s*(.+)$", told.read_text(), re.MULTILINE) if told.exists() else None
    return names[1] if names else platform.processor()


def _weights(detector: Detector) -> str:
    """Of the untrained detector, the backbone's among them: a file or the hub may hold others than before."""
    total = hashlib.sha256()
    for name, tensor in detector.state_dict().items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _listed(source: SourceConfig) -> Iterator[str]:
    """Every object of the input by what storage says of its content; none is read."""
    for entry in Listing(source, open_input(source)):
        yield f"{entry.key}\0{entry.size}\0{entry.etag}"


def _digest(texts: Iterable[str]) -> str:
    total = hashlib.sha256()
    for text in texts:
        total.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))  # keys of any bytes
    return total.hexdigest()
