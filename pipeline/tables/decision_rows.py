"""Rows of the table `decisions`: settings that people changed, and the thresholds that followed from a review budget."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.entries import Head, Judging
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change
from pipeline.tables.changes import schema_text
from pipeline.tables.files import data_files
from pipeline.tables.order import write_sorted
from pipeline.tables.seen_images import read_columns
from schemas import decisions
from schemas.decisions import THRESHOLD

BY_BUDGET = "review_budget"

Row = dict[str, Any]
Thresholds = Mapping[str, Mapping[str, float]]
"""By model digest and night."""


def changed_settings(ledger: Ledger, number: int, entry: Judging) -> list[Row]:
    """A row for each setting that the entry changes."""
    old, new = entry.before.texts(), entry.rule.texts()
    at = datetime.fromisoformat(entry.decided_at)
    changed = [setting for setting in new if old[setting] != new[setting]]
    return [_row(ledger, entry.digest, number, name, old[name], new[name], entry.decided_by, at) for name in changed]


def threshold_rows(ledger: Ledger, head: Head, found: Thresholds) -> list[Row]:
    """A row for each new threshold."""
    now, numbers = datetime.now(UTC), {judged.digest: judged.number for judged in head.judged}
    return [
        _row(ledger, digest, numbers[digest], f"{THRESHOLD}{night}", None, repr(threshold), BY_BUDGET, now)
        for digest, nights in sorted(found.items())
        for night, threshold in sorted(nights.items())
    ]


def known_thresholds(ledger: Ledger, head: Head, table: DeltaTable | None) -> Thresholds:
    """The thresholds that were fixed under the rules of today; reads the table only if one has a review budget."""
    numbers = {judged.number: judged.digest for judged in head.judged if judged.rule.review_budget is not None}
    found: dict[str, dict[str, float]] = {digest: {} for digest in numbers.values()}
    if not numbers:
        return found
    for file in data_files(table, ledger.model):
        for rows in read_columns(ledger.store, "decisions", file, ("entry", "setting", "new"), decisions.SCHEMA):
            for row in rows.to_pylist():
                if row["entry"] in numbers and row["setting"].startswith(THRESHOLD):
                    found[numbers[row["entry"]]][row["setting"].removeprefix(THRESHOLD)] = float(row["new"])
    return found


def decisions_change(ledger: Ledger, rows: list[Row]) -> dict[str, Change]:
    """Write the file of these rows; the change by name of the table, none without rows."""
    if not rows:
        return {}
    table = pa.Table.from_pylist(rows, decisions.SCHEMA)
    files = write_sorted(ledger.store, "decisions", table, {"model": ledger.model}, ledger.model)
    return {"decisions": Change(tuple(files), schema=schema_text(decisions.SCHEMA))}


def _row(ledger: Ledger, digest: str, entry: int, setting: str, old: str | None, new: str | None, by: str, at: datetime) -> Row:
    same = {"model": ledger.model, "model_digest": digest, "entry": entry, "decided_by": by, "decided_at": at}
    return same | {"setting": setting, "old": old, "new": new}
