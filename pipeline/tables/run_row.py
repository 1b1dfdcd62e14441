"""The row of the table runs that sums up a plan slice: written last, and read back after a driver was killed."""

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from pipeline.state.run_state import RunState
from pipeline.storage.objects import retry
from pipeline.tables.changes import is_committed, replace_files
from pipeline.tables.delta import DataFile, open_or_create, open_table
from pipeline.tables.faults import retried
from pipeline.tables.writer import PartitionWriter
from schemas import runs
from schemas.footer import StageSeconds


@dataclass(frozen=True)
class RunInfo:
    """What finalize must know of a run and cannot read from its commits.

    key_columns: fields of the key pattern.  config, artifact: JSON-serialisable.  attempts: drivers so far.
    started_at, spent_s: when this driver took up the slice, and the wall time of all drivers on it; None when not known.
    """

    run_id: str
    slice: int
    model: str
    model_digest: str
    config: dict[str, Any]
    code_version: str
    ignored: int
    attempts: int
    started_at: datetime | None
    max_error_share: float
    accept_errors: bool = False
    key_columns: tuple[str, ...] = ()
    artifact: dict[str, Any] | None = None
    calibration_digest: str | None = None
    spent_s: float | None = None


@dataclass(frozen=True)
class Counts:
    """Counts of a slice: planned = scored + quarantined; these include duplicates, which are not in the tables."""

    planned: int
    scored: int
    quarantined: int
    duplicates: int
    ignored: int
    bytes_read: int
    stage_seconds: StageSeconds

    def text(self) -> str:
        """JSON, for the mark that the slice is published."""
        return json.dumps(vars(self) | {"stage_seconds": self.stage_seconds._asdict()})

    @classmethod
    def parse(cls, text: str | bytes) -> "Counts":
        entries = json.loads(text)
        return cls(**entries | {"stage_seconds": StageSeconds(**entries["stage_seconds"])})


def publish_run(state: RunState, run: RunInfo, counts: Counts) -> None:
    """Write and commit the slice's row of the table runs."""
    row = {
        **{name: getattr(run, name) for name in runs.SCHEMA.names if hasattr(run, name)},
        **{name: number for name, number in vars(counts).items() if name in runs.SCHEMA.names},
        "config": json.dumps(run.config, sort_keys=True),
        "artifact": json.dumps(run.artifact, sort_keys=True) if run.artifact is not None else None,
        "stage_seconds": json.dumps(counts.stage_seconds._asdict(), sort_keys=True),
        "device_seconds": counts.stage_seconds.score,
        "finished_at": datetime.now(UTC),
    }
    with TemporaryDirectory(prefix="flowscore-finalize-") as folder:
        stem = f"{run.run_id}-{run.slice:06d}"
        with PartitionWriter(state.store, "runs", runs.SCHEMA, {}, stem, Path(folder)) as writer:
            writer.write(pa.Table.from_pylist([row], schema=runs.SCHEMA))
    retry(partial(_commit_run, state, run, writer.files))


def _commit_run(state: RunState, run: RunInfo, files: list[DataFile]) -> None:
    """Add the slice's row to the runs table. It can be repeated: it finds a commit whose answer was lost in the table's log."""
    while True:
        try:
            table = open_or_create(state.output_uri, "runs", runs.SCHEMA)
            if is_committed(table, run.run_id, run.slice):
                return
            replace_files("runs", table, state.store, run.run_id, run.slice, files, [])
            return
        except CommitFailedError:
            continue  # another writer was first: check again


def recorded(output_uri: str, run: RunInfo) -> Counts:
    """The counts in the slice's row of the runs table."""
    table = open_table(output_uri, "runs")
    assert table is not None
    of_slice = [("run_id", "=", run.run_id), ("slice", "=", run.slice)]
    (row,) = retried(table.to_pyarrow_table)(filters=of_slice).to_pylist()
    numbers = {field.name: row[field.name] for field in fields(Counts)}
    return Counts(**numbers | {"stage_seconds": StageSeconds(**json.loads(row["stage_seconds"]))})
