"""The row of the table runs that sums a slice up. It is the same whichever command publishes."""

import json
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.state.attempts import Attempts
from pipeline.state.entries import Slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change
from pipeline.tables.changes import schema_text
from pipeline.tables.order import write_sorted
from schemas import runs
from schemas.footer import StageSeconds
from schemas.tally import Tally


def run_change(
    ledger: Ledger,
    number: int,
    entry: Slice,
    tally: Tally,
    attempts: Attempts,
    artifact: str | None,
    calibration: str | None,
    publication: int,
    finished_at: datetime | None = None,
) -> Change:
    """Write the data file with a slice's row.

    Args:
        artifact, calibration: of the newest model that scores the slice: its config, JSON; the digest by which it is judged.
        publication: number of the publication that brings the slice into the tables.
        finished_at: now, if it is left out.
    """
    scoring = entry.newest_scoring
    row = {
        "run_id": ledger.run_id(number),
        "slice": number,
        "publication": publication,
        "model": ledger.model,
        "model_digest": scoring.model_digest,
        "calibration_digest": calibration,
        "config": json.dumps(scoring.model_dump(mode="json"), sort_keys=True),
        "artifact": artifact,
        "code_version": entry.code_version,
        "planned": tally.planned,
        "ignored": tally.ignored,
        "scored": tally.scored,
        "quarantined": tally.quarantined,
        "attempts": attempts.drivers,
        "stage_seconds": json.dumps(_rounded(tally.seconds)._asdict(), sort_keys=True),
        "bytes_read": tally.bytes_read,
        "device_seconds": tally.seconds.score,
        "scored_on": json.dumps([scored_on._asdict() | {"images": images} for scored_on, images in tally.scored_on]),
        "started_at": attempts.started_at,
        "finished_at": finished_at or datetime.now(UTC),
        "spent_s": attempts.spent_s,
    }
    rows = pa.Table.from_pylist([row], schema=runs.SCHEMA)
    files = write_sorted(ledger.store, "runs", rows, {"model": ledger.model}, ledger.run_id(number))
    return Change(tuple(files), schema=schema_text(runs.SCHEMA))


def _rounded(seconds: StageSeconds) -> StageSeconds:
    return StageSeconds(*(round(spent, 3) for spent in seconds))
