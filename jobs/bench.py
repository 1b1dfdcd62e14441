"""Measure a model alone, decoding alone and the scoring run, and estimate a run over many images."""

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.benchmark.cases import Case, Subject, cases, chosen, of_case, of_model
from jobs.benchmark.estimate import measured_rates, table
from jobs.benchmark.figures import Book, Measured, open_book
from jobs.benchmark.hardware import cores, hardware_name
from jobs.benchmark.measure_names import DECODE_ONLY, END_TO_END, MEASURES
from jobs.command.date_check import check_date
from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.model_folder import model_folder
from jobs.command.places import check_file
from jobs.drawn.archive import SIZE_PX
from jobs.settings.bench import BenchSettings
from pipeline.scoring.device import resolve_device
from pipeline.storage.store import open_store

DECODED_SIZE = (1600, 1200)  # (width, height), the default for images that are only decoded
MAX_SIDE_PX = 30_000


def main(settings: BenchSettings) -> None:
    known = cases(settings.cases)
    if settings.list_cases:
        print("\n".join(f"{name:<28} {one.about} ({one.precision})" for name, one in known.items()))
        return
    if settings.csv_file is not None:
        check_file("--csv", settings.csv_file)
    stored = _size(settings.size)
    check_date(settings.source.date, must_be_day=lambda: True)
    asked = [] if settings.plan else _measures(settings)
    with TemporaryDirectory(prefix="flowscore-bench-") as folder:
        subjects = _subjects(settings, known, Path(folder))
        device = resolve_device(settings.device)
        book = open_book(hardware_name(device), settings.csv_file, settings.save)
        for subject in subjects:
            if settings.plan is not None:
                _plan(settings.plan, subject, settings, device, stored or DECODED_SIZE, book)
                continue
            for name in asked:
                if name != END_TO_END:
                    book.enter(_alone(name, subject, settings, device, stored or DECODED_SIZE))
                    continue
                (source, tables), shown = _places(settings, stored, subject.name if len(subjects) > 1 else "")
                from jobs.benchmark.whole_run import end_to_end  # with Ray and torch, which take seconds to load

                whole = settings.scoring_run(str(subject.make()), source, tables)
                book.enter(end_to_end(subject.name, whole, settings.in_memory_images, settings.seconds, shown))


def _subjects(settings: BenchSettings, known: dict[str, Case], folder: Path) -> list[Subject]:
    """The trained model, or an untrained one for each case, made in the folder."""
    if not settings.model:
        found = chosen(settings.case, known, settings.precision, settings.image_size)
        return [of_case(name, one, folder) for name, one in found.items()]
    if settings.case or settings.precision or settings.image_size:
        fix = "Remove those: a trained model has its own size and precision."
        raise UsageError("--model", "given without --case, --precision and --image-size", settings.model, fix)
    return [of_model(settings.model, settings.cache_dir.expanduser())]


def _size(text: str | None) -> tuple[int, int] | None:
    """(width, height)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or not all(16 <= int(side) <= MAX_SIDE_PX for side in found.groups()):
        raise UsageError("--size", f"WIDTHxHEIGHT, 16 to {MAX_SIDE_PX} pixels each", text, "Example: --size 1600x1200")
    width, height = map(int, found.groups())
    return width, height


def _measures(settings: BenchSettings) -> list[str]:
    """The measures that are asked for. Default: the whole run; for named cases, all that the given places allow."""
    asked, named = settings.measure, bool(settings.case)
    placed = bool(settings.store or (settings.input and settings.output))
    for name in asked:
        if name not in MEASURES:
            raise UsageError("--measure", f"one of {', '.join(MEASURES)}", name, "Choose one of them.")
    found = asked or (list(MEASURES) if named else [END_TO_END])
    if END_TO_END not in found or placed:
        return found
    if asked or not named:
        fix = "Name a bucket: --store s3://bucket/bench"
        raise UsageError("--store", f"given for {END_TO_END}, or --input and --output", None, fix)
    print(f"{END_TO_END} is left out: it needs --store, or --input and --output")
    return [name for name in found if name != END_TO_END]


def _alone(name: str, subject: Subject, settings: BenchSettings, device: str, stored: tuple[int, int]) -> Measured:
    """Takes one of the measures that need no storage."""
    from jobs.benchmark.alone import decode_config, decode_only, in_memory

    decode = decode_config(subject.config)
    if name == DECODE_ONLY:
        if decode.resize == "tile":
            fix = "Its images are decoded beside the model: measure --measure end-to-end."
            raise UsageError("--model", f"one that does not score by tiles, for {DECODE_ONLY}", subject.name, fix)
        return decode_only(subject.name, stored, decode, settings.seconds)
    threads = settings.resources.threads or (1 if device == "cuda" else cores())
    directory = model_folder(subject.make(), settings.cache_dir)
    return in_memory(subject.name, directory, decode, device, threads, settings.seconds)


def _plan(images: int, subject: Subject, settings: BenchSettings, device: str, stored: tuple[int, int], book: Book) -> None:
    label = f"{device}-{subject.config.precision}"
    stored_size = "{}x{}".format(*stored)

    def measure(name: str) -> Measured:
        return book.enter(_alone(name, subject, settings, device, stored))

    rates, sources = measured_rates(book, subject.name, label, stored_size, measure)
    print("\n".join(sources))
    print(f"{images:,} images of {stored_size} by {subject.name} on {label}")
    print("\n".join(table(images, rates, settings.prices, settings.nodes)))


def _places(settings: BenchSettings, stored: tuple[int, int] | None, name: str) -> tuple[tuple[str, str], str]:
    """Input and output of one run, and the stored size, blank for the user's own images. Made-up images are put into the input.

    name: the case, where several share one output; blank otherwise.
    """
    if not settings.store:
        assert settings.input and settings.output
        output = f"{settings.output.rstrip('/')}/{name}" if name else settings.output
        if held := next(iter(open_store(output).list()), None):
            fix = "Choose another place: a measured run would add to the tables there."
            raise UsageError("--output", "an empty place", f"{output} with {held.key}", fix)
        return (settings.input, output), ""
    width, height = stored or (SIZE_PX, SIZE_PX)
    shown = f"{width}x{height}"
    source = f"{settings.store}/images-{settings.images}-{shown}"
    from jobs.benchmark.inputs import fill

    print(f"{fill(open_store(source), settings.images, stored):,} images of {shown} in {source}", flush=True)
    return (source, f"{settings.store}/tables-{time.time_ns()}"), shown


if __name__ == "__main__":
    run(main)
