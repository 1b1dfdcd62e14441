"""Says before a training starts how long it takes, and its room on disk and in memory; afterwards, what it took.

Room on disk follows from the shapes of the features, the number of images and the types in which they are kept. Time and
memory are measured in a rehearsal of the fit itself (models/fitting/rehearsal.py); what grows with the images is added.
"""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from jobs.command.errors import UsageError
from jobs.command.progress import Progress, duration
from jobs.images.first_images import FirstImages, first_images
from jobs.images.good import MIN_IMAGES
from jobs.settings.training import AUTO, TrainSettings
from jobs.training.memory import forget_peak, peak_bytes, room_bytes
from models.detector import FitRun
from models.features.store import ImageFeatures, image_bytes
from models.fitting.exam import defects_stored
from models.fitting.groups import THUMBNAIL, split
from models.fitting.rehearsal import Rehearsed, Sample, rehearse


class Taken(NamedTuple):
    """Seconds; bytes of pixels and features on disk; of memory; of the GPU's, None without one."""

    seconds: float
    features: int
    memory: int
    gpu: int | None

    def figures(self) -> list[str]:
        gpu = [] if self.gpu is None else [sized(self.gpu)]
        return [duration(self.seconds), sized(self.features), sized(self.memory), *gpu]


class Sizes(NamedTuple):
    """Samples in all, and of the fit and the selection among them; bytes that one takes: its pixels, and what is kept of it.
    copies: in other light, of each sample of these two.  lit: whether the selection has gradients of light.  held_out: images
    of the selection."""

    samples: int
    fit: int
    selection: int
    pixel_bytes: int
    kept_bytes: int
    copies: int = 0
    lit: bool = False
    held_out: int = 0

    def made(self) -> int:
        """What is made of the samples of the fit and the selection, beside defects."""
        return self.copies * (self.fit + self.selection) + self.lit * self.selection

    def on_disk(self) -> int:
        return (self.samples + self.made() + defects_stored(self.selection)) * self.kept_bytes

    def mapped(self, reads_often: bool) -> int:
        """What the fit maps of these files: features are read instead of pixels where they are kept."""
        read = self.kept_bytes - self.pixel_bytes if reads_often else self.pixel_bytes
        images = self.fit + self.selection + self.made()
        return (images + defects_stored(self.selection)) * read + self.selection * self.pixel_bytes


def forecast(settings: TrainSettings, images: ImageFeatures, run: FitRun, place: Path) -> Taken | None:
    """What the training will take, printed in one line; None if it cannot begin.

    A selection that stops early makes it shorter, as do epochs that an interrupted training has kept.

    Args:
        place: the folder of the features, which may lie in scratch.
    Raises:
        UsageError: the disk has less room than they need. Nothing is written yet.
    """
    forget_peak()
    if run.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    detector = images.detector
    with Progress("measuring how long the training takes", total=None):
        first = _first(settings, images)
        if first is None or first.images < MIN_IMAGES:  # who reads them says what is wrong
            return None
        held = detector.fit_bytes()
        if lacking := held > room_bytes():  # before it is tried: the system may end a process that takes too much
            _say_memory(held)
        sample = Sample(detector, run.device)
        sizes = _sizes(settings, first, sample)
        if images.about is None:
            _check_disk(settings, sizes, detector.fit_file_bytes((1 + sizes.copies) * (sizes.fit + sizes.selection)), place)
        at_reading = peak_bytes()
        found = rehearse(sample, sizes.fit, sizes.selection, run, sizes.copies, sizes.lit)
        memory = _memory(first, sizes, at_reading, peak_bytes(), detector.reads_often)
    extracted = sizes.samples if detector.reads_often and images.about is None else 0
    extracted += sizes.made() if detector.reads_often else 0
    read_s = 0.0 if images.about is not None else first.images * first.read_s
    seconds = read_s + extracted * sample.extract_s + found.all_s()
    if first.tiles and sizes.held_out:  # whole images are read and scored once more (jobs/training/whole_maps.py)
        seconds += first.images * first.fetch_s
        extract_s = sample.extract_s if detector.reads_often else 0.0  # else it is a part of scoring
        seconds += sizes.held_out * (first.read_s - first.fetch_s + first.tiles * (extract_s + found.image_s))
    if settings.detector == AUTO:  # all candidates are fitted and examined, and then what is chosen, as if it were all of them
        seconds += found.defects_s + found.selection_s
    said = Taken(seconds, sizes.on_disk(), memory, _gpu_bytes(run.device))
    print(_line(said, found, settings.workspace or Path(tempfile.gettempdir()), resumed=images.about is not None))
    needed = memory - sizes.mapped(detector.reads_often)
    if needed > room_bytes() and not lacking:
        _say_memory(needed)
    return said


def compared(said: Taken, took: Taken) -> str:
    """`said 3 min 05 s, 1.2 GB of features, 2.1 GB of memory; took 2 min 41 s, 1.2 GB, 2.0 GB`."""
    units = ("", " of features", " of memory", " of GPU memory")
    figures = [f"{figure}{unit}" for figure, unit in zip(said.figures(), units, strict=False)]
    return f"said {', '.join(figures)}; took {', '.join(took.figures())}"


def took(seconds: float, features: int, device: str) -> Taken:
    """What the training has taken."""
    return Taken(seconds, features, peak_bytes(), _gpu_bytes(device))


def sized(count: int) -> str:
    """Bytes as people write them.

    >>> sized(1_234_000_000), sized(20_400_000)
    ('1.2 GB', '20 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.0f} MB"


def _first(settings: TrainSettings, images: ImageFeatures) -> FirstImages | None:
    """Of an interrupted training, the images that it has read; how long one takes to read only where some are read again."""
    config, found = images.detector.config, FirstImages(0, 0, 0.0, 0)
    if images.about is None or config.input.resize == "tile":
        read = first_images(settings.source_of_input(), config, settings.tiles_per_image, settings.seed)
        if read is None or images.about is None:
            return read
        found = read
    return found._replace(images=len(images.about["hashes"]), samples=len(images), unit_bytes=0)


def _sizes(settings: TrainSettings, first: FirstImages, sample: Sample) -> Sizes:
    """As if every image were a group of its own, and all had as many samples."""
    shares = (settings.calibration_share, settings.selection_share)
    _, held_out, fitted = (len(part) for part in split([str(i) for i in range(first.images)], shares, settings.seed))
    selection, fit = (round(part * first.samples / first.images) for part in (held_out, fitted))
    copies, lit = settings.light_copies if settings.light else 0, settings.criterion_light > 0
    bytes_each = sample.pixels[0].numel(), image_bytes(sample.detector, sample.maps)
    return Sizes(first.samples, fit, selection, *bytes_each, copies, lit, held_out)


def _check_disk(settings: TrainSettings, sizes: Sizes, own_files: int, place: Path) -> None:
    scratch = Path(tempfile.gettempdir())
    shared = place.stat().st_dev == scratch.stat().st_dev
    needed, free = sizes.on_disk() + (own_files if shared else 0), shutil.disk_usage(place).free
    if needed > free:
        field, where = ("--workspace", settings.workspace) if settings.workspace else ("TMPDIR", scratch)
        rule = f"a folder on a disk with room for {sized(needed)} of features"
        fix = f"{sized(free)} are free there: make room, name another folder, or lower --image-size."
        raise UsageError(field, rule, str(where), fix)


def _memory(first: FirstImages, sizes: Sizes, at_reading: int, at_fit: int, reads_often: bool) -> int:
    """The most of the reading, the making of defects and the fit; two copies of the images' thumbnails stay."""
    reading = at_reading + first.unit_bytes
    defects = at_reading + (2 * sizes.selection + defects_stored(1) * 16) * sizes.pixel_bytes
    fit = at_fit + sizes.mapped(reads_often)
    return 2 * first.images * 2 * THUMBNAIL**2 + max(reading, defects, fit)


def _gpu_bytes(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def _line(said: Taken, found: Rehearsed, place: Path, resumed: bool) -> str:
    about = "at most about" if resumed else "about"
    early = ", less if the selection stops early" if found.selection_s else ""
    gpu = "" if said.gpu is None else f" and {sized(said.gpu)} of the GPU's"
    return (
        f"takes {about} {duration(said.seconds)} on this device{early}; {sized(said.features)} of features in {place}; "
        f"{sized(said.memory)} of memory{gpu}"
    )


def _say_memory(needed: int) -> None:
    print(
        f"memory may not suffice: the training needs about {sized(needed)} and this machine has {sized(room_bytes())} for it. "
        "Lower --image-size, batch_size in `training` or dims in `hyperparameters`, or use a larger machine"
    )
