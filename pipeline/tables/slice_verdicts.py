"""Judges a slice: its own images, and those in the tables that show the same pieces or belong to the same lots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.files import active_files
from pipeline.tables.lot_rows import Decided, known_lots, write_lots
from pipeline.tables.publication import MapFunction
from pipeline.tables.replaced import Replaced
from pipeline.tables.seen_images import CommitsJob, FileJob, Judges, Parts, replaced_places, see_commits, see_file
from pipeline.tables.slice_rows import RowsJob
from pipeline.verdicts.gathered import Known, Verdicts, gather, places_of, places_without_lot
from pipeline.verdicts.lots import Lot
from pipeline.verdicts.shown import within

IMAGES_IN = ("errors", "scores")


@dataclass
class JudgedSlice:
    """jobs: the slice's, with verdicts.  files: the verdicts on rows of files of `scores` that are in the tables, by path.
    only: places whose rows are judged in those files, by period.  lots: new files of `lots`.
    thresholds: of nights that had none yet, by model digest.
    """

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
    """Judge the images of the jobs, and with them all rows of the tables whose verdict they may change."""
    found = JudgedSlice()
    ledger = slice_.ledger
    looks = [CommitsJob(ledger, slice_.number, job.units, job.left_out, job.bases, slice_.judges) for job in jobs]
    seen = zip(jobs, map_fn(see_commits, looks), strict=True)
    by_period = sorted(seen, key=lambda both: both[0].period)
    for period, group in groupby(by_period, key=lambda both: both[0].period):
        mine = list(group)
        known = known_lots(ledger, opened["lots"], period, slice_.judges)
        files, only = _affected(slice_, period, [parts for _, parts in mine], set(known), opened, map_fn)
        looks_at = [FileJob(ledger, table, file, slice_.judges, slice_.replaced, only) for table, file in files]
        parts = [*(parts for _, parts in mine), *map_fn(see_file, looks_at)]
        verdicts, lots, thresholds = judge_parts(parts, slice_.judges)
        for digest, nights in thresholds.items():
            found.thresholds.setdefault(digest, {}).update(nights)
        found.jobs += [replace(job, verdicts=of_job) for (job, _), of_job in zip(mine, verdicts, strict=False)]
        of_files = zip(files, verdicts[len(mine) :], strict=True)
        found.files |= {file.path: (file, of_file) for (table, file), of_file in of_files if table == "scores" and of_file}
        found.only[period] = only
        rows = Decided(ledger, slice_.judges, slice_.entries).rows(lots, known, only.to_pylist())
        found.lots += write_lots(ledger, period, rows, ledger.run_id(slice_.number))
    return found


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


class JudgedParts(NamedTuple):
    """verdicts: on each of the parts, by model.  lots: by place.  thresholds: of nights that had none yet, by model."""

    verdicts: list[dict[str, Known]]
    lots: dict[str, Lot]
    thresholds: dict[str, dict[str, float]]


def judge_parts(parts: Sequence[Parts], judges: Judges) -> JudgedParts:
    """The verdicts on all images that are in one of the parts."""
    found = JudgedParts([{} for _ in parts], {}, {})
    for digest, judge in judges.items():
        having = [(at, of_part[digest]) for at, of_part in enumerate(parts) if digest in of_part]
        gathered = gather([part for _, part in having], judge)
        found.lots.update(gathered.lots)
        found.thresholds[digest] = gathered.thresholds
        for (at, _), known in zip(having, gathered.known, strict=True):
            found.verdicts[at][digest] = known
    return found
