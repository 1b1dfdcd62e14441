"""Measure a model alone, decoding alone and the scoring run, and say what a run over many images would take."""

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from jobs.benchmark.alone import DECODE_ONLY, IN_MEMORY, decode_config, decode_only, in_memory
from jobs.benchmark.cases import Case, Subject, cases, chosen, of_case, of_model
from jobs.benchmark.estimate import Prices, measured_rates, table
from jobs.benchmark.figures import Book, Measured, open_book
from jobs.benchmark.hardware import cores, hardware_name
from jobs.benchmark.inputs import fill
from jobs.benchmark.whole_run import END_TO_END, end_to_end
from jobs.command.config import load
from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.drawn.archive import SIZE_PX
from jobs.score import ScoreSettings
from pipeline.scoring.scorer import resolve_device
from pipeline.storage.copies import local_copy
from pipeline.storage.store import open_store

MEASURES = (IN_MEMORY, DECODE_ONLY, END_TO_END)
DECODED_SIZE = (1600, 1200)  # (width, height) of images that are only decoded, unless told
MAX_SIDE_PX = 30_000


class BenchSettings(ScoreSettings):
    """Settings of `flowscore score`, further cases by name, and the prices of --plan."""

    cases: dict[str, Case] = {}
    prices: Prices = Prices()


def main(
    case: Annotated[list[str] | None, typer.Option(help="a case to measure; repeat for several")] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="name the cases and end")] = False,
    measure: Annotated[list[str] | None, typer.Option(help="in-memory, decode-only or end-to-end; repeat for several")] = None,
    plan: Annotated[int | None, typer.Option(help="instead: estimate a run over so many images", min=1)] = None,
    nodes: Annotated[int, typer.Option(help="of --plan: for 1, 2, 4, ... and so many nodes", min=1)] = 8,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the images as they are stored")] = None,
    store: Annotated[str | None, typer.Option(help="place for made-up images and tables: s3://bucket/prefix or a path")] = None,
    input: Annotated[str | None, typer.Option(help="images of your own instead of made-up ones")] = None,
    output: Annotated[str | None, typer.Option(help="an empty place for the tables, with --input; not cleaned up")] = None,
    model: Annotated[str | None, typer.Option(help="directory of the trained model; default: an untrained one")] = None,
    images: Annotated[int, typer.Option(help="how many images to make up")] = 2000,
    in_memory_images: Annotated[int, typer.Option("--in-memory", help="images of end-to-end's in-memory parts")] = 960,
    seconds: Annotated[float, typer.Option(help="of each rate that is measured from memory")] = 10.0,
    precision: Annotated[str | None, typer.Option(help="of untrained models: float32 or bf16")] = None,
    image_size: Annotated[int | None, typer.Option(help="of the untrained model without --case, pixels")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file as for flowscore score; also `cases` and `prices`")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="append the figures to this file; --plan reads it")] = None,
    save: Annotated[bool, typer.Option("--save", help="append them to docs/benchmarks/throughput/HARDWARE.csv")] = False,
) -> None:
    with TemporaryDirectory(prefix="flowscore-bench-") as folder:
        # No measure needs all of these places; the folder stands for those that are not given.
        places = {"model": model or folder, "input": input or folder, "output": output or folder}
        settings = load(BenchSettings, config, device=device, **places)
        known = cases(settings.cases)
        if list_cases:
            print("\n".join(f"{name:<28} {one.about} ({one.precision})" for name, one in known.items()))
            return
        stored = _size(size)
        asked = [] if plan else _measures(measure or [], bool(case), bool(store or (input and output)))
        device = _device(settings.device)
        if model:
            if case or precision or image_size:
                fix = "A trained model has its own size and precision."
                raise UsageError("--model", "given without --case, --precision and --image-size", model, fix)
            subjects = [of_model(model, settings.cache_dir.expanduser())]
        else:
            found = chosen(case or [], known, precision, image_size)
            subjects = [of_case(name, one, Path(folder)) for name, one in found.items()]
        book = open_book(hardware_name(device), csv_file, save)
        for subject in subjects:
            if plan is not None:
                _plan(plan, nodes, subject, settings, device, stored or DECODED_SIZE, seconds, book)
                continue
            for name in asked:
                if name != END_TO_END:
                    book.enter(_alone(name, subject, settings, device, stored or DECODED_SIZE, seconds))
                    continue
                places, shown = _places(store, input, output, images, stored, subject.name if len(subjects) > 1 else "")
                source = settings.source.model_copy(update={"input_uri": places[0]})
                whole = settings.model_copy(update={"model": subject.make(), "output": places[1], "source": source})
                book.enter(end_to_end(subject.name, whole, in_memory_images, seconds, shown))


def _size(text: str | None) -> tuple[int, int] | None:
    """(width, height)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or not all(16 <= int(side) <= MAX_SIDE_PX for side in found.groups()):
        raise UsageError("--size", f"WIDTHxHEIGHT, 16 to {MAX_SIDE_PX} pixels each", text, "Example: --size 1600x1200")
    width, height = map(int, found.groups())
    return width, height


def _measures(asked: list[str], named: bool, placed: bool) -> list[str]:
    """What to measure: what was asked; else the whole run, and of named cases all that needs no place that is missing."""
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


def _device(name: str) -> str:
    """cpu or cuda."""
    found = resolve_device(name)
    if found.partition(":")[0] not in ("cpu", "cuda") or (found != "cpu" and not torch.cuda.is_available()):
        usable = "auto, cpu or cuda" if torch.cuda.is_available() else "auto or cpu on this machine"
        raise UsageError("--device", usable, name, "Choose one of them.")
    return found


def _alone(
    name: str, subject: Subject, settings: BenchSettings, device: str, stored: tuple[int, int], seconds: float
) -> Measured:
    """One of the measures that need no storage."""
    decode = decode_config(subject.config)
    if name == DECODE_ONLY:
        if decode.resize == "tile":
            fix = "Its images are decoded beside the model: measure --measure end-to-end."
            raise UsageError("--model", f"one that does not score by tiles, for {DECODE_ONLY}", subject.name, fix)
        return decode_only(subject.name, stored, decode, seconds)
    threads = settings.resources.threads or (1 if device.startswith("cuda") else cores())
    directory = local_copy(subject.make(), settings.cache_dir.expanduser())
    return in_memory(subject.name, directory, decode, device, threads, seconds)


def _plan(
    images: int,
    nodes: int,
    subject: Subject,
    settings: BenchSettings,
    device: str,
    stored: tuple[int, int],
    seconds: float,
    book: Book,
) -> None:
    label = f"{device.partition(':')[0]}-{subject.config.precision}"
    stored_size = "{}x{}".format(*stored)

    def measure(name: str) -> Measured:
        return book.enter(_alone(name, subject, settings, device, stored, seconds))

    rates, sources = measured_rates(book, subject.name, label, stored_size, measure)
    print("\n".join(sources))
    print(f"{images:,} images of {stored_size} by {subject.name} on {label}")
    print("\n".join(table(images, rates, settings.prices, nodes)))


def _places(
    store: str | None, input: str | None, output: str | None, images: int, stored: tuple[int, int] | None, name: str
) -> tuple[tuple[str, str], str]:
    """Input, filled where the images are made up, and output of one run; the stored size, blank for the user's own images.

    name: of the case where one output is for several.
    """
    if not store:
        assert input and output
        return (input, f"{output.rstrip('/')}/{name}" if name else output), ""
    width, height = stored or (SIZE_PX, SIZE_PX)
    shown = f"{width}x{height}"
    input = f"{store}/images-{images}-{shown}"
    print(f"{fill(open_store(input), images, stored):,} images of {shown} in {input}", flush=True)
    return (input, f"{store}/tables-{time.time_ns()}"), shown


if __name__ == "__main__":
    run(main)
