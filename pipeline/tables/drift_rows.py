"""Rows of the table `drift`: the nights that are charted, and what they say to judges."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.files import data_files
from pipeline.tables.order import write_sorted
from pipeline.tables.seen_images import read_columns
from pipeline.verdicts.charted_night import ChartedNight, State
from pipeline.verdicts.judge import Nights
from schemas import drift

BETWEEN = ", "
READ = ("model_digest", "calibration_digest", "drift_group", "date", "state", "source", "since", "reason", "images", "carried")


class DriftRow(NamedTuple):
    """A night of a group of a model under a calibration. Rows that were read have no measurements."""

    model_digest: str
    calibration_digest: str
    group: str
    night: ChartedNight


def read_drift(ledger: Ledger, table: DeltaTable | None) -> list[DriftRow]:
    """The ledger's rows in the version that is loaded; it reads nothing without a table."""
    found = []
    for file in data_files(table, ledger.model):
        for rows in read_columns(ledger.store, "drift", file, READ, drift.SCHEMA):
            found += [_read(row) for row in rows.to_pylist()]
    return found


def nights_of(rows: Sequence[DriftRow], digest: str, calibration: str | None) -> tuple[Nights, Nights]:
    """Why nights of a model are suspended, and why they are watched, under a calibration. Another one begins anew."""
    mine = [row for row in rows if (row.model_digest, row.calibration_digest) == (digest, calibration)]
    suspended = {(row.group, row.night.date): row.night.suspends for row in mine if row.night.state == "suspended"}
    watched = {(row.group, row.night.date): row.night.warns for row in mine if row.night.state == "watch"}
    return suspended, watched


def write_drift(ledger: Ledger, rows: Sequence[DriftRow]) -> list[DataFile]:
    """Write the file of new rows."""
    now = datetime.now(UTC)
    table = pa.Table.from_pylist([_written(ledger, row) | {"decided_at": now} for row in rows], drift.SCHEMA)
    return write_sorted(ledger.store, "drift", table, {"model": ledger.model}, ledger.model)


def _written(ledger: Ledger, row: DriftRow) -> dict[str, Any]:
    night, measured = row.night, row.night.measured
    found: dict[str, Any] = {
        "model": ledger.model,
        "model_digest": row.model_digest,
        "calibration_digest": row.calibration_digest,
        "drift_group": row.group,
        "date": night.date,
        "state": night.state,
        "source": BETWEEN.join(night.sources) or None,
        "since": night.since,
        "reason": night.reason,
        "images": night.images,
        "alarmed": None if measured is None else BETWEEN.join(measured.alarmed) or None,
        "carried": night.carried,
    }
    if measured is not None:
        for name, *numbers in zip(drift.CHANNELS, measured.values, measured.distances, measured.limits, strict=False):
            found |= zip((f"{name}_value", f"{name}_distance", f"{name}_limit"), numbers, strict=True)
    return found


def _read(row: dict[str, Any]) -> DriftRow:
    night = ChartedNight(
        row["date"],
        cast(State, row["state"]),
        row["images"],
        row["reason"],
        tuple(row["source"].split(BETWEEN)) if row["source"] else (),
        row["since"],
        carried=row["carried"],
    )
    return DriftRow(row["model_digest"], row["calibration_digest"], row["drift_group"], night)
