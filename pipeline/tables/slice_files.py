"""Writes the data files of one slice's publication. Nothing here is visible to readers, and nothing is decided twice.

Files are appended: what the slice brings goes to new files, and only files with rows of objects that it holds anew are written
again without them. `maps` and `regions` only get additions; what they lose goes at a compaction.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state import slices
from pipeline.state.entries import Slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, DataFile
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import TABLES, arrow_schema, check_fits, key_columns, score_schema
from pipeline.tables.files import active_files
from pipeline.tables.identities import Bases
from pipeline.tables.publication import MapFunction
from pipeline.tables.replaced import PartJob, RewriteJob, ScanJob, Span, find_objects, may_hold, planned_again, rewrite
from pipeline.tables.slice_rows import WRITTEN, RowsJob, dealt_out, write_rows

REPLACED_IN = ("errors", "scores")
"""Tables that lose the rows of replaced objects."""


@dataclass(frozen=True)
class SliceFiles:
    """A slice whose data files are to be written.

    superseded: objects that a published later slice holds: nothing of them is written or removed.
    may_change: objects whose outcome in the slice may change: it never replaces rows that are there.
    bases: see pipeline/tables/identities.py.
    """

    ledger: Ledger
    number: int
    entry: Slice
    superseded: pa.Array
    may_change: pa.Array
    bases: Bases = ()

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        """The columns of the files by table. Raises TableConflict for a key with the name of another column."""
        keys = [name for scoring in self.entry.scorings for name in key_columns(scoring.source)]
        fixed = {name: TABLES[name].SCHEMA for name in WRITTEN}
        return {**fixed, "scores": score_schema(dict.fromkeys(keys))}


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

    added: dict[str, list[DataFile]] = {name: [] for name in WRITTEN}
    removed: dict[str, list[DataFile]] = {name: [] for name in WRITTEN}
    for written in map_fn(write_rows, _rows_jobs(files, schemas["scores"], left_out)):
        for name, found in written.items():
            added[name] += found
    for rewritten in map_fn(rewrite, _rewrite_jobs(files, candidates, opened, left_out)):
        if rewritten.file is not None:
            removed[rewritten.table].append(rewritten.file)
            added[rewritten.table] += rewritten.added
    return {
        name: Change(tuple(added[name]), tuple(removed[name]), schema_text(schemas[name]))
        for name in WRITTEN
        if added[name] or removed[name]
    }


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


def _rows_jobs(files: SliceFiles, score_columns: pa.Schema, left_out: pa.Array) -> Iterator[RowsJob]:
    now = datetime.now(UTC)
    digests = tuple(scoring.model_digest for scoring in files.entry.scorings)
    for period, units in dealt_out(slices.outlines(files.ledger, files.number), digests):
        yield RowsJob(files.ledger, files.number, period, units, score_columns, now, left_out, files.bases)


def _rewrite_jobs(
    files: SliceFiles,
    candidates: list[tuple[str, DataFile]],
    opened: Mapping[str, DeltaTable | None],
    kept: pa.Array,
) -> Iterator[RewriteJob]:
    for name, file in candidates:
        table = opened[name]
        assert table is not None
        yield RewriteJob(files.ledger, files.number, name, file, arrow_schema(table), kept, files.bases)
