"""Judges a slice: its own images, and those in the tables that show the same pieces or belong to the same lots."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.files import active_files
from pipeline.tables.lot_rows import Decided, KnownLots, known_lots, write_lots
from pipeline.tables.publication import MapFunction
from pipeline.tables.replaced import Replaced
from pipeline.tables.seen_images import CommitsJob, FileJob, replaced_places, see_commits, see_file
from pipeline.tables.slice_rows import RowsJob, write_rows
from pipeline.verdicts.gathered import Judges, Parts, Verdicts, judge_parts, places_of, places_without_lot
from pipeline.verdicts.lots import Lot
from pipeline.verdicts.shown import within

IMAGES_IN = ("errors", "scores")


@dataclass
class JudgedSlice:
    """written: files of jobs that have judged their rows themselves, by table.  jobs: the others, with verdicts.
    files: the verdicts on rows of files of `scores` that are in the tables, by path.
    only: places whose rows are judged in those files, by period.  lots: new files of `lots`.
    thresholds: of nights that had none yet, by model digest.
    """

    written: list[dict[str, tuple[DataFile, ...]]] = field(default_factory=list)
    jobs: list[RowsJob] = field(default_factory=list)
    files: dict[str, tuple[DataFile, Verdicts]] = field(default_factory=dict)
    only: dict[str, pa.Array] = field(default_factory=dict)
    lots: list[DataFile] = field(default_factory=list)
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceToJudge:
    """judges: those of the slice's models that have a calibration, by digest.  entries: of their rules.
    replaced: rows that the slice replaces.  candidates: files that may hold such, by table."""

    ledger: Ledger
    number: int
    judges: Judges
    entries: Mapping[str, int]
    replaced: Replaced
    candidates: Sequence[tuple[str, DataFile]]


def judge_slice(
    slice_: SliceToJudge, jobs: Sequence[RowsJob], opened: Mapping[str, DeltaTable | None], map_fn: MapFunction = map
) -> JudgedSlice:
    """Judge the images of the jobs, and with them all rows of the tables whose verdict they may change.

    A period that is one job judges and writes its rows at once, if they turn out to be all that their lots and pieces have:
    so it is with nearly every night. Otherwise all images are looked at first.
    """
    found, ledger = JudgedSlice(), slice_.ledger
    known = {period: known_lots(ledger, opened["lots"], period, slice_.judges) for period in {job.period for job in jobs}}
    several = Counter(job.period for job in jobs)
    replacing = {file.partition["period"] for _, file in slice_.candidates}
    alone = [job for job in jobs if several[job.period] == 1 and job.period not in replacing]
    rest = [job for job in jobs if several[job.period] > 1 or job.period in replacing]
    asked = (replace(job, judges=slice_.judges, known=frozenset(known[job.period])) for job in alone)
    for job, written in zip(alone, map_fn(write_rows, asked), strict=True):
        found.written.append(written.files)
        if written.undecided:
            rest.append(replace(job, tables=("scores",)))
        else:
            _note(found, slice_, job.period, written.lots, written.thresholds, known[job.period], [])
    looks = [CommitsJob(ledger, slice_.number, job.units, job.left_out, job.bases, slice_.judges) for job in rest]
    seen = sorted(zip(rest, map_fn(see_commits, looks), strict=True), key=lambda both: both[0].period)
    for period, group in groupby(seen, key=lambda both: both[0].period):
        mine = list(group)
        files, only = _affected(slice_, period, [parts for _, parts in mine], set(known[period]), opened, map_fn)
        looks_at = [FileJob(ledger, table, file, slice_.judges, slice_.replaced, only) for table, file in files]
        parts = [*(parts for _, parts in mine), *map_fn(see_file, looks_at)]
        verdicts, lots, thresholds = judge_parts(parts, slice_.judges)
        found.jobs += [replace(job, verdicts=of_job) for (job, _), of_job in zip(mine, verdicts, strict=False)]
        of_files = zip(files, verdicts[len(mine) :], strict=True)
        found.files |= {file.path: (file, of_file) for (table, file), of_file in of_files if table == "scores" and of_file}
        found.only[period] = only
        _note(found, slice_, period, lots, thresholds, known[period], only.to_pylist())
    return found


def _note(
    found: JudgedSlice,
    slice_: SliceToJudge,
    period: str,
    lots: Mapping[str, Lot],
    thresholds: Mapping[str, Mapping[str, float]],
    known: KnownLots,
    looked_at: Sequence[str],
) -> None:
    """Write what is decided of a period's lots, and keep the thresholds."""
    for digest, nights in thresholds.items():
        found.thresholds.setdefault(digest, {}).update(nights)
    rows = Decided(slice_.ledger, slice_.judges, slice_.entries).rows(lots, known, looked_at)
    found.lots += write_lots(slice_.ledger, period, rows, slice_.ledger.run_id(slice_.number))


def _affected(
    slice_: SliceToJudge,
    period: str,
    parts: Sequence[Parts],
    known: set[str],
    opened: Mapping[str, DeltaTable | None],
    map_fn: MapFunction,
) -> tuple[list[tuple[str, DataFile]], pa.Array]:
    """The files of the tables that may hold images of the lots and pieces that change, and the places of these."""
    ledger = slice_.ledger
    brought = {place for of_job in parts for part in of_job.values() for place in places_of(part)}
    looks = [
        FileJob(ledger, table, file, slice_.judges, slice_.replaced)
        for table, file in slice_.candidates
        if file.partition["period"] == period
    ]
    lost = {place for places in map_fn(replaced_places, looks) for place in places}
    lotless = {place for of_job in parts for part in of_job.values() for place in places_without_lot(part)}
    changed = (brought & known) | lost | lotless
    if not changed:
        return [], pa.array([], pa.string())
    bounds = within(changed)
    files = [
        (table, active.file)
        for table in IMAGES_IN
        for active in active_files(opened[table], ledger.model, {period})
        if active.may_be_within(bounds.days, bounds.lots)
    ]
    return files, pa.array(sorted(changed), pa.string())
