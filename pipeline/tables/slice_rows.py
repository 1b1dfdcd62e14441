"""Writes the rows that a slice brings: its units of one period become files of maps, regions, errors and scores."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.committed import read_commits
from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.delta import TABLES
from pipeline.tables.identities import Bases, without
from pipeline.tables.order import CHUNK_ROWS, TableOrder, UnitOrder
from pipeline.tables.rows import Same, error_rows, map_rows, region_rows, score_rows
from pipeline.tables.seen_images import UnitRange, columns_of
from pipeline.tables.writer import PartitionWriter, widened
from pipeline.verdicts.columns import with_verdicts
from pipeline.verdicts.gathered import (
    JudgedParts,
    Judges,
    Verdicts,
    columns,
    judge_parts,
    part_of,
    places_of,
    places_without_lot,
)
from pipeline.verdicts.lots import Lot
from schemas.days import period
from schemas.plan import UnitOutline

WRITTEN = ("maps", "regions", "errors", "scores")

JOB_IMAGES = 250_000
STREAM_IMAGES = 25_000
"""For so many a stream counts when units are dealt out; files are cut by the images that it turns out to hold."""
JOB_UNITS = 4096


@dataclass(frozen=True)
class RowsJob:
    """Units of one period, to be written; plain values that can be sent to a Ray task.

    schemas: columns of `scores` and `errors`.  left_out: objects of which nothing is written.
    verdicts: on its rows; None where nothing is judged, or the job judges.
    judges: by which the job judges its rows itself, if no other images belong to their pieces and lots.
    known: places that were decided before.  tables: that are written.
    """

    ledger: Ledger
    slice: int
    period: str
    units: tuple[UnitRange, ...]
    schemas: Mapping[str, pa.Schema]
    scored_at: datetime
    left_out: pa.Array
    bases: Bases
    verdicts: Verdicts | None = None
    judges: Judges | None = None
    known: frozenset[str] = frozenset()
    tables: tuple[str, ...] = WRITTEN

    @property
    def partition(self) -> dict[str, str]:
        return {"model": self.ledger.model, "period": self.period}


def dealt_out(outlines: Iterable[UnitOutline], digests: tuple[str, ...]) -> Iterator[tuple[str, tuple[UnitRange, ...]]]:
    """(period, units) of each job: about JOB_IMAGES images of one period, in the order of the plan.

    Args:
        digests: of the models that score, by the column `scoring`.
    """
    waiting: dict[str, list[UnitRange]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for unit in outlines:
        of = period(unit.date)
        ranges = waiting.setdefault(of, [])
        digest = digests[unit.scoring]
        if ranges and (ranges[-1].end, ranges[-1].model_digest) == (unit.number, digest):
            ranges[-1] = ranges[-1]._replace(end=unit.number + 1)
        else:
            ranges.append(UnitRange(unit.number, unit.number + 1, digest))
        images, units = counts.get(of, (0, 0))
        counts[of] = images + (STREAM_IMAGES if unit.images is None else unit.images), units + 1
        if counts[of][0] >= JOB_IMAGES or counts[of][1] >= JOB_UNITS:
            yield of, tuple(waiting.pop(of))
            del counts[of]
    for of, ranges in waiting.items():
        yield of, tuple(ranges)


class RowsWritten(NamedTuple):
    """files: by table.  undecided: its rows of `scores` are not written, since other images matter to their verdicts.
    lots, thresholds: that the job has decided itself; see `JudgedParts`.
    """

    files: dict[str, tuple[DataFile, ...]]
    undecided: bool = False
    lots: Mapping[str, Lot] = {}
    thresholds: Mapping[str, Mapping[str, float]] = {}


def write_rows(job: RowsJob) -> RowsWritten:
    """Write the job's rows. Memory holds at most CHUNK_BYTES of each table, and its sorted copy; of `scores` that a job judges
    itself CHUNK_ROWS.

    Raises:
        IncompleteSlice: not every unit is committed whole.
    """
    writers: dict[str, PartitionWriter] = {}
    with tempfile.TemporaryDirectory(prefix="flowscore-publish-") as folder, ExitStack() as stack:
        for table in job.tables:
            schema = job.schemas.get(table, TABLES[table].SCHEMA)
            stem = job.ledger.run_id(job.slice)
            writer = PartitionWriter(job.ledger.store, table, schema, job.partition, stem, Path(folder))
            writers[table] = stack.enter_context(writer)
        by_unit = {table: UnitOrder(writers[table]) for table in ("maps", "regions") if table in writers}
        made = {"maps": map_rows, "regions": region_rows}
        of_errors = TableOrder(writers["errors"], "errors") if "errors" in writers else None
        own = None if job.judges is None else OwnImages(job.judges, job.known)
        verdicts = job.verdicts
        finish = None if verdicts is None else partial(with_verdicts, verdicts=verdicts)
        of_scores = TableOrder(writers["scores"], "scores", finish)
        for unit_id, rows, same in _commits(job):
            for table, by in by_unit.items():
                by.write(unit_id, made[table](rows, same))
            failed, scored = error_rows(rows, job.schemas["errors"], same), score_rows(rows, job.schemas["scores"], same)
            if of_errors is not None:
                of_errors.write(failed)
            if own is None:
                of_scores.write(scored)
            else:
                own.add(scored, failed)
        judged = None if own is None else own.judged()
        if own is not None and judged is not None:
            of_scores = TableOrder(writers["scores"], "scores", partial(with_verdicts, verdicts=judged.verdicts[0]))
            of_scores.write(own.rows())
        if of_errors is not None:
            of_errors.flush()
        for by in by_unit.values():
            by.flush()
        of_scores.flush()
    files = {table: tuple(writer.files) for table, writer in writers.items() if writer.files}
    if judged is None:
        return RowsWritten(files, undecided=own is not None)
    return RowsWritten(files, False, judged.lots, judged.thresholds)


@dataclass
class OwnImages:
    """The rows of a job that are judged by themselves, if they are few enough, and no other images matter."""

    judges: Judges
    known: frozenset[str]
    scored: list[pa.Table] = field(default_factory=list)
    failed: list[pa.Table] = field(default_factory=list)
    count: int = 0

    def add(self, scored: pa.Table, failed: pa.Table) -> None:
        """Rows of `scores` and `errors`."""
        self.count += scored.num_rows + failed.num_rows
        if self.count > CHUNK_ROWS:
            self.scored, self.failed = [], []
        else:
            self.scored.append(scored)
            self.failed.append(failed)

    def rows(self) -> pa.Table:
        """Those of `scores`."""
        return pa.concat_tables(self.scored)

    def judged(self) -> JudgedParts | None:
        """None if they are too many, or if images that are in the tables belong to the same pieces or lots."""
        if self.count > CHUNK_ROWS:
            return None
        parts = {}
        for digest, judge in self.judges.items():
            rows = self._seen(digest, columns(judge))
            if rows.num_rows:
                part = parts[digest] = part_of(rows, judge)
                if places_of(part) & self.known or places_without_lot(part):
                    return None
        return judge_parts([parts], self.judges)

    def _seen(self, digest: str, names: Sequence[str]) -> pa.Table:
        """These columns of all images of a model, null where the rows lack one."""
        rows = (table.filter(pc.equal(table["model_digest"], digest)) for table in (*self.scored, *self.failed))
        wanted = columns_of(names)
        return pa.concat_tables([wanted.empty_table(), *(widened(mine, wanted) for mine in rows)])


def _commits(job: RowsJob) -> Iterator[tuple[str, pa.Table, Same]]:
    """(unit_id, rows, values that all of them share) of each commit, without the objects that are left out."""
    for first, end, digest in job.units:
        for _, footer, rows in read_commits(job.ledger, job.slice, first, end):
            rows = without(rows, job.left_out, job.bases)
            same: Same = {
                "model": job.ledger.model,
                "model_digest": digest,
                "scoring_version": footer.scoring_version,
                "date": footer.date,
                "period": job.period,
                "run_id": job.ledger.run_id(job.slice),
                "unit_id": footer.unit_id,
                "device": footer.device,
                "hardware": footer.hardware or None,
                "scored_at": job.scored_at,
            }
            yield footer.unit_id, rows, same
