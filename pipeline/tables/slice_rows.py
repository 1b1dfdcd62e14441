"""Writes the rows that a slice brings: its units of one period become files of maps, regions, errors and scores."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.committed import read_commits
from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.delta import TABLES
from pipeline.tables.identities import Bases, identities
from pipeline.tables.order import TableOrder, UnitOrder
from pipeline.tables.rows import Same, error_rows, map_rows, region_rows, score_rows
from pipeline.tables.seen_images import UnitRange
from pipeline.tables.writer import PartitionWriter
from pipeline.verdicts.columns import with_verdicts
from pipeline.verdicts.gathered import Verdicts
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
    verdicts: by which scores are judged; None where nothing is.
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


def write_rows(job: RowsJob) -> dict[str, tuple[DataFile, ...]]:
    """Write the job's rows; returns the files by table. Memory holds at most CHUNK_BYTES of each table, and its sorted copy.

    Raises:
        IncompleteSlice: not every unit is committed whole.
    """
    writers: dict[str, PartitionWriter] = {}
    with tempfile.TemporaryDirectory(prefix="flowscore-publish-") as folder, ExitStack() as stack:
        for table in WRITTEN:
            schema = job.schemas.get(table, TABLES[table].SCHEMA)
            stem = job.ledger.run_id(job.slice)
            writer = PartitionWriter(job.ledger.store, table, schema, job.partition, stem, Path(folder))
            writers[table] = stack.enter_context(writer)
        by_unit = {table: UnitOrder(writers[table]) for table in ("maps", "regions")}
        verdicts = job.verdicts
        judged = None if verdicts is None else partial(with_verdicts, verdicts=verdicts)
        of_errors, of_scores = TableOrder(writers["errors"], "errors"), TableOrder(writers["scores"], "scores", judged)
        for unit_id, rows, same in _commits(job):
            by_unit["maps"].write(unit_id, map_rows(rows, same))
            by_unit["regions"].write(unit_id, region_rows(rows, same))
            of_errors.write(error_rows(rows, job.schemas["errors"], same))
            of_scores.write(score_rows(rows, job.schemas["scores"], same))
        for by in by_unit.values():
            by.flush()
        for order in (of_errors, of_scores):
            order.flush()
    return {table: tuple(writer.files) for table, writer in writers.items() if writer.files}


def _commits(job: RowsJob) -> Iterator[tuple[str, pa.Table, Same]]:
    """(unit_id, rows, values that all of them share) of each commit, without the objects that are left out."""
    for first, end, digest in job.units:
        for _, footer, rows in read_commits(job.ledger, job.slice, first, end):
            if len(job.left_out):
                rows = rows.filter(pc.invert(pc.is_in(identities(rows["uri"], job.bases), job.left_out)))
            same: Same = {
                "model": job.ledger.model,
                "model_digest": digest,
                "scoring_version": footer.scoring_version,
                "date": footer.date,
                "period": job.period,
                "run_id": job.ledger.run_id(job.slice),
                "unit_id": footer.unit_id,
                "device": footer.device,
                "scored_at": job.scored_at,
            }
            yield footer.unit_id, rows, same
