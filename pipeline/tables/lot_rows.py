"""Rows of the table `lots`: what is known of lots that were decided, and the revisions that new decisions add."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.files import active_files
from pipeline.tables.order import write_sorted
from pipeline.tables.seen_images import read_columns
from pipeline.verdicts.gathered import Judges
from pipeline.verdicts.lots import Lot
from pipeline.verdicts.shown import DIGITS, places
from schemas import lots

DECIDED = [name for name in lots.SCHEMA.names if name not in ("period", "revision", "entry", "decided_at")]
"""A decision that differs from the last one in none of these is no new revision."""

Row = dict[str, Any]
KnownLots = dict[str, Row]
"""The newest row of each lot, by place."""


@dataclass(frozen=True)
class Decided:
    """What a publication has decided of lots. entries: of the rules that decided, by model digest."""

    ledger: Ledger
    judges: Judges
    entries: Mapping[str, int]

    def rows(self, found: Mapping[str, Lot], known: KnownLots, looked_at: Collection[str]) -> list[Row]:
        """A row for every lot whose decision is not the one that is known, without period and time.

        Args:
            looked_at: places all of whose images were there to be found.
        """
        from models.calibration.lot_decision import LotDecision  # see pipeline/verdicts/judge.py

        nothing = LotDecision(0, "not_judged", "no image of it is left")  # its images are now of other lots
        gone = {place: known[place] for place in looked_at if place in known}
        left = {place: Lot(row["lot"], row["date"], 0, 0, 0, nothing) for place, row in gone.items()}
        rows = []
        for place, lot in sorted((left | dict(found)).items()):
            (digest,) = (digest for digest in self.judges if place.startswith(digest[:DIGITS]))
            row = self._row(lot, digest)
            before = known.get(place)
            if before is None or any(row[name] != before[name] for name in DECIDED):
                rows.append({**row, "revision": 0 if before is None else before["revision"] + 1})
        return rows

    def _row(self, lot: Lot, digest: str) -> Row:
        decision, rule = lot.decision, self.judges[digest].rule
        return {
            "lot": lot.lot,
            "model": self.ledger.model,
            "date": lot.date,
            "expected": None,
            "planned": lot.planned,
            "scored": lot.planned - lot.unreadable,
            "unreadable": lot.unreadable,
            "pieces": decision.judged,
            "flagged": lot.flagged,
            "hold_limit": decision.hold_limit,
            "min_flaggable": decision.min_flaggable,
            "lot_p": decision.lot_p,
            "shift_p": decision.shift_p,
            "defects_at_least": decision.defects_at_least,
            "basis": decision.basis,
            "rate": None if rule.calibration is None else rule.rate,
            "state": decision.state,
            "reason": decision.reason,
            "model_digest": digest,
            "calibration_digest": rule.calibration,
            "entry": self.entries[digest],
        }


def known_lots(ledger: Ledger, table: DeltaTable | None, period: str, digests: Collection[str]) -> KnownLots:
    """The lots of a period that were decided."""
    found: KnownLots = {}
    for active in active_files(table, ledger.model, {period}):
        for rows in read_columns(ledger.store, "lots", active.file, lots.SCHEMA.names, lots.SCHEMA):
            of_digest = {digest: places(rows["lot"], rows["date"], digest).to_pylist() for digest in digests}
            for at, row in enumerate(rows.to_pylist()):
                if row["model_digest"] in of_digest:
                    place = of_digest[row["model_digest"]][at]
                    if place not in found or found[place]["revision"] < row["revision"]:
                        found[place] = row | {"model": ledger.model}
    return found


def write_lots(ledger: Ledger, period: str, rows: list[Row], stem: str) -> list[DataFile]:
    """Write the file of a period's new rows; none without rows."""
    same = {"period": period, "decided_at": datetime.now(UTC)}
    table = pa.Table.from_pylist([row | same for row in rows], lots.SCHEMA)
    return write_sorted(ledger.store, "lots", table, {"model": ledger.model, "period": period}, stem)
