"""Keeps the figures of `flowscore bench` in a CSV file: one figure a row, so that all cases and measures share the columns."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from jobs.command.errors import UsageError
from schemas.version import VERSION

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks" / "throughput"
COLUMNS = ["date", "version", "hardware", "case", "measure", "device", "stored_size", "storage", "figure", "value", "unit"]


class Figure(NamedTuple):
    """One measured number. unit: blank for a count or a share."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True)
class Measured:
    """The result of one measure of one case.

    device: kind and precision of the model ("cpu-bf16"); "cpu" for decoding.  stored_size: size of the images ("1600x1200");
    blank if none are decoded or they are the user's own.  storage: the kind that they were read from ("s3", "file"); blank for
    memory.  sentences: the figures in words.
    """

    case: str
    measure: str
    device: str
    figures: list[Figure]
    stored_size: str = ""
    storage: str = ""
    sentences: tuple[str, ...] = ()

    def value(self, name: str) -> float:
        return next(figure.value for figure in self.figures if figure.name == name)

    def printed(self) -> str:
        """Lines for a person."""
        title = " ".join(filter(None, [self.case, self.measure, self.device, self.stored_size]))
        lines = [f"{name:<28} {value:.10g} {unit}".rstrip() for name, value, unit in self.figures]
        return "\n".join([f"== {title}", *lines, *self.sentences])


@dataclass(frozen=True)
class Book:
    """Prints results and, if it writes, appends them to its file.

    path: file of earlier figures; it may be missing.  writes: whether new figures go there too.
    """

    hardware: str
    path: Path
    writes: bool

    def enter(self, measured: Measured) -> Measured:
        print(measured.printed(), flush=True)
        if self.writes:
            append(self.path, self.hardware, measured)
        return measured


def open_book(hardware: str, csv_file: Path | None, save: bool) -> Book:
    """The named file, or else the one in docs/ for this hardware. Raises UsageError."""
    if csv_file and save:
        raise UsageError("--csv", "left out with --save", str(csv_file), "Choose one: the figures go to one file.")
    if save and not FOLDER.is_dir():
        fix = "Name a file of your own: --csv FILE"
        raise UsageError("--save", "used in a checkout of flowscore, which has that folder", str(FOLDER), fix)
    return Book(hardware, csv_file or FOLDER / f"{hardware}.csv", bool(csv_file or save))


def append(path: Path, hardware: str, measured: Measured) -> None:
    """Add the figures, with the present time, to a new file or one with these columns. Raises UsageError for other files."""
    rows = read(path) if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    same = [now, VERSION, hardware, measured.case, measured.measure, measured.device, measured.stored_size, measured.storage]
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if rows is None:
            writer.writerow(COLUMNS)
        writer.writerows([*same, name, f"{value:.10g}", unit] for name, value, unit in measured.figures)


def read(path: Path) -> list[dict[str, str]]:
    """All rows of the file. Raises UsageError if `flowscore bench` did not write it."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            fix = "Name another one."
            raise UsageError("--csv", "a new file or one that flowscore bench wrote", str(path), fix)
        return list(reader)


def measures(rows: Iterable[dict[str, str]], **wanted: str) -> list[dict[str, float]]:
    """The figures, by name, of every measure whose columns match `wanted`, the newest last."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        if all(row[column] == value for column, value in wanted.items()):
            which = tuple(row[column] for column in ("date", "case", "measure", "device", "stored_size", "storage"))
            found.setdefault(which, {})[row["figure"]] = float(row["value"])
    return [found[which] for which in sorted(found)]
