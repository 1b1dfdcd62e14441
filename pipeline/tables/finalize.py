"""Turns the commits of a finished plan slice into rows of the tables. It can be repeated after a kill at any point.

The files of all partitions are written first. Then each table gets one commit, in the order maps, regions, errors,
`scores`, `runs`: an image is visible once its row of scores is. A table whose transaction log already has the run's slice stays
unchanged. The change is atomic per table, not across tables.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.state import plan
from pipeline.state.run_state import RunState
from pipeline.storage.objects import Gone, retry
from pipeline.tables.changes import is_committed, replace_files
from pipeline.tables.delta import TABLES, DataFile, active_files, check_partitions, open_or_create, open_table, score_schema
from pipeline.tables.error_share import TooManyErrors, check_error_share
from pipeline.tables.partition import PartitionCounts, PartitionFiles, PartitionJob, discard, write_partition
from pipeline.tables.run_row import Counts, RunInfo, publish_run, recorded
from schemas.footer import StageSeconds

PARTITIONED = ("maps", "regions", "errors", "scores")
"""The tables that hold images, in the order of their commits; lots join them when a model is calibrated."""

MapFunction = Callable[[Callable[[PartitionJob], PartitionFiles], Iterable[PartitionJob]], Iterable[PartitionFiles]]


def finalize_slice(output_uri: str, run: RunInfo, map_fn: MapFunction = map) -> Counts:
    """Publish one slice whose units are all committed; an already published slice stays unchanged.

    Args:
        map_fn: applies a function to partition jobs, by default in this process, one after another; Ray tasks can do it too.
    Raises:
        IncompleteSlice: a unit of the slice is not committed whole, or an earlier slice is not published.
        TooManyErrors: nothing is published.
        PartitionConflict, TableConflict: a table does not fit the run.
    """
    state = RunState(output_uri, run.run_id)
    published = read_published(state, run.slice)
    if published is not None:
        return published
    _check_earlier(state, run.slice)
    if is_committed(open_table(output_uri, "runs"), run.run_id, run.slice):
        counts = recorded(output_uri, run)
    else:
        counts = _publish_images(state, run, map_fn)
        publish_run(state, run, counts)
    state.store.put(state.published_key(run.slice), counts.text().encode())
    return counts


def read_published(state: RunState, slice_number: int) -> Counts | None:
    """The counts of a slice that finalize has finished, or None."""
    try:
        return Counts.parse(state.store.get(state.published_key(slice_number)))
    except Gone:
        return None


def _check_earlier(state: RunState, slice_number: int) -> None:
    missing = sorted(set(range(slice_number)) - state.published())
    if missing:
        raise ValueError(
            f"slice must be the first that is not published; got {slice_number} of run {state.run_id} while {missing[0]} is "
            "not. Publish them in order"
        )


def _publish_images(state: RunState, run: RunInfo, map_fn: MapFunction) -> Counts:
    """Write and commit those of maps, regions, errors and scores that are not committed yet."""
    units = _units_by_date(state, run.slice)
    written: dict[str, PartitionFiles] = {}
    now = datetime.now(UTC)

    def newest() -> dict[str, DeltaTable | None]:
        return {name: open_table(state.output_uri, name) for name in PARTITIONED}

    def write(dates: Iterable[str], tables: tuple[str, ...], opened: dict[str, DeltaTable | None]) -> None:
        existing = {name: active_files(table, run.model, units) for name, table in opened.items()}
        jobs = [_job(state, run, date, units[date], tables, existing, now) for date in dates]
        for files in map_fn(write_partition, jobs):
            earlier = written.get(files.date)
            if earlier is not None:
                discard(state, {name: earlier.added[name] for name in tables})
                files = _newer(earlier, files)
            written[files.date] = files

    def rewrite(name: str, dates: list[str]) -> None:
        write(dates, (name,), newest())

    check_partitions(state.output_uri, run.model, run.model_digest, units)
    opened = newest()
    pending = tuple(name for name in PARTITIONED if not is_committed(opened[name], run.run_id, run.slice))
    write(units, pending, opened)
    counts = _total(written.values(), run)
    if pending == PARTITIONED:
        _check_error_share(state, run, counts, written.values())
    for name in pending:
        retry(partial(_commit, state, run, name, written, partial(rewrite, name)))
    return counts


def _commit(
    state: RunState,
    run: RunInfo,
    name: str,
    written: dict[str, PartitionFiles],
    rewrite: Callable[[list[str]], None],
) -> None:
    """Commit one table; first write again what another writer has changed in the meantime.

    It can be repeated any number of times: it finds a commit whose answer was lost in the table's log.
    """
    while True:
        added = [file for files in written.values() for file in files.added[name]]
        removed = [file for files in written.values() for file in files.removed[name]]
        if not added and not removed:
            return
        try:
            table = open_or_create(state.output_uri, name, _schema(run, name))
            if is_committed(table, run.run_id, run.slice):
                return
            current = active_files(table, run.model, written)
            stale = [date for date, files in written.items() if files.existing[name] != current[date]]
            if stale:
                check_partitions(state.output_uri, run.model, run.model_digest, stale)
                rewrite(stale)
                continue
            replace_files(name, table, state.store, run.run_id, run.slice, added, removed)
            return
        except CommitFailedError:
            continue  # another writer was first: check again


def _newer(earlier: PartitionFiles, later: PartitionFiles) -> PartitionFiles:
    """The files of a partition after some of its tables were written again."""
    existing = {**earlier.existing, **{name: later.existing[name] for name in later.added}}
    return PartitionFiles(
        earlier.date,
        {**earlier.added, **later.added},
        {**earlier.removed, **later.removed},
        existing,
        earlier.counts,
        earlier.stage_seconds,
        earlier.archives,
    )


def _units_by_date(state: RunState, slice_number: int) -> dict[str, tuple[tuple[int, int], ...]]:
    """The slice's units of each partition, as ranges of unit numbers (first, end)."""
    found: dict[str, list[tuple[int, int]]] = {}
    for unit in plan.outlines(state, slice_number):
        ranges = found.setdefault(unit.date, [])
        if ranges and ranges[-1][1] == unit.number:
            ranges[-1] = (ranges[-1][0], unit.number + 1)
        else:
            ranges.append((unit.number, unit.number + 1))
    return {date: tuple(ranges) for date, ranges in sorted(found.items())}


def _job(
    state: RunState,
    run: RunInfo,
    date: str,
    units: tuple[tuple[int, int], ...],
    tables: tuple[str, ...],
    existing: dict[str, dict[str, list[DataFile]]],
    now: datetime,
) -> PartitionJob:
    same: dict[str, str | datetime | None] = {
        "model": run.model,
        "model_digest": run.model_digest,
        "calibration_digest": run.calibration_digest,
        "run_id": run.run_id,
        "scored_at": now,
    }
    here = {name: by_date[date] for name, by_date in existing.items()}
    return PartitionJob(state, run.slice, date, units, tables, score_schema(run.key_columns), same, here)


def _schema(run: RunInfo, name: str) -> pa.Schema:
    return score_schema(run.key_columns) if name == "scores" else TABLES[name].SCHEMA


def _total(written: Iterable[PartitionFiles], run: RunInfo) -> Counts:
    counts, seconds = PartitionCounts(), StageSeconds()
    for files in written:
        counts, seconds = counts.plus(files.counts), seconds.plus(files.stage_seconds)
    return Counts(
        planned=counts.scored + counts.quarantined,
        scored=counts.scored,
        quarantined=counts.quarantined,
        duplicates=counts.duplicates,
        ignored=run.ignored + counts.ignored,
        bytes_read=counts.bytes_read,
        stage_seconds=StageSeconds(*(round(spent, 3) for spent in seconds)),
    )


def _check_error_share(state: RunState, run: RunInfo, counts: Counts, written: Iterable[PartitionFiles]) -> None:
    if run.accept_errors:
        return
    accept = f"flowscore finalize --output {state.output_uri} --run-id {run.run_id} --accept-errors"
    archives = [key for files in written for key in files.archives]
    try:
        check_error_share(counts.quarantined, counts.planned, archives, run.max_error_share, accept)
    except TooManyErrors:
        for files in written:
            discard(state, files.added)
        raise
