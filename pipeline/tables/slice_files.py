"""Writes the data files of one slice's publication. Nothing here is visible to readers, and nothing is decided twice.

Files are appended: what the slice brings goes to new files, and only files with rows of objects that it holds anew are written
again without them. `maps` and `regions` only get additions; what they lose goes at a compaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state import slices
from pipeline.state.entries import Head, Slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, DataFile
from pipeline.tables.changes import schema_text
from pipeline.tables.decision_rows import decisions_change, threshold_rows
from pipeline.tables.delta import TABLES, arrow_schema, check_fits, error_schema, key_columns, score_schema, with_missing
from pipeline.tables.files import active_files
from pipeline.tables.identities import Bases
from pipeline.tables.publication import MapFunction
from pipeline.tables.replaced import PartJob, Replaced, ScanJob, Span, find_objects, may_hold, planned_again
from pipeline.tables.rewrite import RewriteJob, rewrite
from pipeline.tables.slice_rows import WRITTEN, RowsJob, dealt_out, write_rows
from pipeline.tables.slice_verdicts import JudgedSlice, SliceToJudge, judge_slice
from pipeline.verdicts.judge import Judge
from schemas import lots

REPLACED_IN = ("errors", "scores")
"""Tables that lose the rows of replaced objects."""


@dataclass(frozen=True)
class SliceFiles:
    """A slice whose data files are to be written.

    superseded: objects that a published later slice holds: nothing of them is written or removed.
    may_change: objects whose outcome in the slice may change: it never replaces rows that are there.
    bases: see pipeline/tables/identities.py.
    judges: of models that have a calibration, by digest.  entries: of their rules in the ledger.  head: of the ledger.
    """

    ledger: Ledger
    number: int
    entry: Slice
    superseded: pa.Array
    may_change: pa.Array
    bases: Bases = ()
    judges: Mapping[str, Judge] = field(default_factory=dict)
    entries: Mapping[str, int] = field(default_factory=dict)
    head: Head = Head()

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        """The columns of the files by table. Raises TableConflict for a key with the name of another column."""
        keys = dict.fromkeys(name for scoring in self.entry.scorings for name in key_columns(scoring.source))
        fixed = {name: TABLES[name].SCHEMA for name in WRITTEN}
        return {**fixed, "scores": score_schema(keys), "errors": error_schema(keys)}


def slice_changes(files: SliceFiles, opened: Mapping[str, DeltaTable | None], map_fn: MapFunction = map) -> dict[str, Change]:
    """Write the files of a slice whose units are all committed; returns what to change in each table.

    Args:
        opened: the newest version of every table.
        map_fn: applies a function to jobs, by default in this process, one after another; Ray tasks can do it too.
    Raises:
        IncompleteSlice: a unit is not committed whole.
        TableConflict: a table does not fit the files.
    """
    schemas = files.schemas
    for name, schema in {**schemas, "runs": TABLES["runs"].SCHEMA}.items():
        table = opened[name]
        if table is not None:
            check_fits(table, name, schema)
    if len(files.superseded) == files.entry.objects:
        return {}
    spans, may_change = _planned_again(files, map_fn)
    candidates = _candidates(files, opened, spans)
    kept = _with_rows(files, candidates, may_change, map_fn)
    left_out = pa.concat_arrays([files.superseded.cast(pa.string()), kept])

    replaced = Replaced(files.ledger, files.number, left_out, files.bases)

    jobs: Iterable[RowsJob] = _rows_jobs(files, schemas, left_out)
    judged = JudgedSlice()
    if files.judges:
        to_judge = SliceToJudge(files.ledger, files.number, files.judges, files.entries, replaced, candidates)
        judged = judge_slice(to_judge, list(jobs), opened, map_fn)
        jobs = judged.jobs
    added: dict[str, list[DataFile]] = {name: [] for name in WRITTEN}
    removed: dict[str, list[DataFile]] = {name: [] for name in WRITTEN}
    for written in (*judged.written, *(rows.files for rows in map_fn(write_rows, jobs))):
        for name, found in written.items():
            added[name] += found
    for rewritten in map_fn(rewrite, _rewrite_jobs(files, schemas, opened, candidates, replaced, judged)):
        if rewritten.file is not None:
            removed[rewritten.table].append(rewritten.file)
            added[rewritten.table] += rewritten.added
    changes = {
        name: Change(tuple(added[name]), tuple(removed[name]), schema_text(schemas[name]))
        for name in WRITTEN
        if added[name] or removed[name]
    }
    changes |= {"lots": Change(tuple(judged.lots), schema=schema_text(lots.SCHEMA))} if judged.lots else {}
    return changes | decisions_change(files.ledger, threshold_rows(files.ledger, files.head, judged.thresholds))


def _planned_again(files: SliceFiles, map_fn: MapFunction) -> tuple[dict[str, Span], pa.Array]:
    """The objects that an earlier slice held: their spans by period, and those among them whose outcome may change."""
    spans: dict[str, Span] = {}
    may_change = [pa.array([], pa.string())]
    if files.entry.replans:
        jobs = (PartJob(files.ledger, part, files.may_change) for part in files.entry.parts)
        for planned in map_fn(planned_again, jobs):
            may_change.append(planned.may_change)
            for period, span in planned.spans.items():
                spans[period] = spans[period].plus(span) if period in spans else span
    return spans, pa.concat_arrays(may_change)


def _candidates(
    files: SliceFiles, opened: Mapping[str, DeltaTable | None], spans: dict[str, Span]
) -> list[tuple[str, DataFile]]:
    """(table, file) of the active files that may hold rows of objects that an earlier slice held."""
    ledger = files.ledger
    return [
        (name, active.file)
        for name in REPLACED_IN
        for active in active_files(opened[name], ledger.model, spans)
        if may_hold(active, spans[active.file.partition["period"]], ledger, files.bases)
    ]


def _with_rows(files: SliceFiles, candidates: list[tuple[str, DataFile]], objects: pa.Array, map_fn: MapFunction) -> pa.Array:
    """Those of the objects that have rows in the tables."""
    if not len(objects):
        return objects
    jobs = (ScanJob(files.ledger.output_uri, name, file.path, objects, files.bases) for name, file in candidates)
    return pa.concat_arrays([pa.array([], pa.string()), *map_fn(find_objects, jobs)]).unique()


def _rows_jobs(files: SliceFiles, schemas: Mapping[str, pa.Schema], left_out: pa.Array) -> Iterator[RowsJob]:
    now = datetime.now(UTC)
    digests = tuple(scoring.model_digest for scoring in files.entry.scorings)
    columns = {name: schemas[name] for name in ("scores", "errors")}
    for period, units in dealt_out(slices.outlines(files.ledger, files.number), digests):
        yield RowsJob(files.ledger, files.number, period, units, columns, now, left_out, files.bases)


def _rewrite_jobs(
    files: SliceFiles,
    schemas: Mapping[str, pa.Schema],
    opened: Mapping[str, DeltaTable | None],
    candidates: list[tuple[str, DataFile]],
    replaced: Replaced,
    judged: JudgedSlice,
) -> Iterator[RewriteJob]:
    rejudged = [("scores", file) for file, _ in judged.files.values()]
    for name, file in dict((f"{name}/{file.path}", (name, file)) for name, file in [*candidates, *rejudged]).values():
        table = opened[name]
        assert table is not None
        schema = with_missing(arrow_schema(table), schemas[name])
        _, verdicts = judged.files.get(file.path, (file, None)) if name == "scores" else (file, None)
        only = judged.only.get(file.partition["period"])
        yield RewriteJob(files.ledger, files.ledger.run_id(files.number), name, file, schema, replaced, verdicts, only)
