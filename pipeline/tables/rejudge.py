"""Brings all rows of a model under the ledger's newest rules: reads no image, scores nothing, and rewrites what differs.

A rule is an entry (pipeline/state/judges.py), and then a publication that judges all rows anew and adds to `decisions`. Whoever
finds the entry without its publication can finish it. Slices are published by rules that are in force only, so that all rows
of a seal are judged by the same.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.entries import Head, Judging, read_entry
from pipeline.state.judges import Ruling, decide, judge_of
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Change, Closed, DataFile, Seal
from pipeline.tables.changes import schema_text
from pipeline.tables.decision_rows import Thresholds, changed_settings, decisions_change, known_thresholds, threshold_rows
from pipeline.tables.delta import arrow_schema, check_fits, with_missing
from pipeline.tables.drift_rows import DriftRow, nights_of, read_drift
from pipeline.tables.faults import TablesError
from pipeline.tables.files import ActiveFile, active_files
from pipeline.tables.lot_rows import Decided, known_lots, write_lots
from pipeline.tables.publication import Draft, Handles, MapFunction, Opened, publish, settled
from pipeline.tables.rewrite import RewriteJob, rewrite
from pipeline.tables.seen_images import FileJob, see_file
from pipeline.tables.slice_verdicts import IMAGES_IN
from pipeline.verdicts.gathered import Judges, judge_parts
from pipeline.verdicts.shown import within
from schemas import lots, scores


class Rejudged(NamedTuple):
    """files: of `scores` that had other verdicts and were written anew, and how many rows they have.  lots: new revisions."""

    files: int = 0
    rows: int = 0
    lots: int = 0

    def sentences(self) -> list[str]:
        """What was done, in a sentence; none if nothing was."""
        if not self.files and not self.lots:
            return []
        return [f"judged anew: {self.rows:,} rows of scores written, {self.lots:,} lots; no image was read"]


def in_force(head: Head, closed: Closed) -> bool:
    """Whether the rows in the tables are judged by the newest rules."""
    return head.decided <= closed.judged


class OtherRules(TablesError):
    """The rows in the tables are not judged by the newest rules yet: `rejudge` first."""


def judges_of(
    ledger: Ledger, head: Head, opened: Opened, charted: Sequence[DriftRow] | None = None
) -> tuple[Judges, dict[str, int]]:
    """By digest, the judges of models that have a calibration, and the numbers of their rules. Raises LostCalibration.

    Args:
        charted: the ledger's rows in `drift`; None reads them.
    """
    judged = [of for of in head.judged if of.rule.calibration is not None]
    if not judged:
        return {}, {}
    charted = read_drift(ledger, opened["drift"]) if charted is None else charted
    fixed = known_thresholds(ledger, head, opened["decisions"])
    judges = {}
    for of in judged:
        suspended, watched = nights_of(charted, of.digest, of.rule.calibration)
        judge, thresholds = judge_of(ledger, head, of.digest), fixed.get(of.digest, {})
        judges[of.digest] = replace(judge, thresholds=thresholds, suspended=suspended, watched=watched)
    return judges, {of.digest: of.number for of in judged}


def rejudge(ledger: Ledger, map_fn: MapFunction = map, handles: Handles | None = None) -> Rejudged:
    """Judge the rows in the tables by the newest rules; does nothing if they are.

    Args:
        map_fn, handles: as for `publish_slice`.
    Raises:
        TableConflict: a column of a table does not fit.
        LostCalibration: the ledger's copy of a calibration is gone.
    """
    done = Rejudged()

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        nonlocal done
        head, closed = read_state(ledger)[1], seal.closed(ledger.model)
        if in_force(head, closed):
            done = Rejudged()
            return None
        changes, done, thresholds = judged_anew(ledger, *judges_of(ledger, head, opened), opened, map_fn)
        decided = [row for entry in _new_decisions(ledger, head, closed) for row in changed_settings(ledger, *entry)]
        changes |= decisions_change(ledger, decided + threshold_rows(ledger, head, thresholds))
        return Draft(seal, ledger.model, "verdicts", changes, judged=head.decided)

    if not in_force(read_state(ledger)[1], settled(ledger.output_uri).closed(ledger.model)):  # else no table is loaded
        publish(ledger.output_uri, prepare, handles)
    return done


def judge_anew(ledger: Ledger, ruling: Ruling, map_fn: MapFunction = map) -> list[str]:
    """Decide a rule, if it is not the ledger's already, and bring the rows in the tables under the newest.

    Returns:
        What was done, in sentences; none if nothing was.
    """
    rule, said = decide(ledger, ruling), []
    if rule is not None:
        of = f"calibration {rule.calibration[:16]}" if rule.calibration else "the model is not calibrated: nothing is judged"
        said.append(f"model {ledger.model}: verdicts at a rate of {rule.rate}; {of}")
    return said + [f"model {ledger.model}: {sentence}" for sentence in rejudge(ledger, map_fn).sentences()]


def judged_anew(
    ledger: Ledger,
    judges: Judges,
    entries: Mapping[str, int],
    opened: Opened,
    map_fn: MapFunction,
    only: Mapping[str, Collection[str]] | None = None,
) -> tuple[dict[str, Change], Rejudged, Thresholds]:
    """Judge rows in the tables anew; returns the changes in `scores` and `lots`, where files and lots that stay equal stay.

    Args:
        entries: of the judges' rules.
        only: places by period; None for all.
    """
    if not judges:
        return {}, Rejudged(), {}
    schema = _schema(opened["scores"])
    add: list[DataFile] = []
    remove: list[DataFile] = []
    new_lots: list[DataFile] = []
    lot_count, thresholds = 0, dict[str, dict[str, float]]()
    for period, files in _by_period(ledger, opened, only):
        places = None if only is None else pa.array(sorted(only[period]), pa.string())
        looks = [FileJob(ledger, name, active.file, judges, only=places) for name, active in files]
        verdicts, found, new = judge_parts(list(map_fn(see_file, looks)), judges)
        for digest, nights in new.items():
            thresholds.setdefault(digest, {}).update(nights)
        known = known_lots(ledger, opened["lots"], period, judges)
        lot_rows = Decided(ledger, judges, entries).rows(found, known, list(known) if only is None else only[period])
        new_lots += write_lots(ledger, period, lot_rows, ledger.model)
        lot_count += len(lot_rows)
        jobs = [
            RewriteJob(ledger, ledger.model, name, active.file, schema, verdicts=of_file, only=places)
            for (name, active), of_file in zip(files, verdicts, strict=True)
            if name == "scores" and of_file
        ]
        for rewritten in map_fn(rewrite, jobs):
            if rewritten.file is not None:
                add += rewritten.added
                remove.append(rewritten.file)
    changes = {"scores": Change(tuple(add), tuple(remove), schema_text(schema))} if remove else {}
    changes |= {"lots": Change(tuple(new_lots), schema=schema_text(lots.SCHEMA))} if new_lots else {}
    rows = sum(json.loads(file.stats)["numRecords"] for file in add)
    return changes, Rejudged(len(remove), rows, lot_count), thresholds


def _schema(table: DeltaTable | None) -> pa.Schema:
    """The columns of `scores`. Without that table nothing was readable so far, and lots are decided nonetheless."""
    if table is None:
        return scores.SCHEMA
    schema = with_missing(arrow_schema(table), scores.SCHEMA)
    check_fits(table, "scores", schema)
    return schema


def _by_period(
    ledger: Ledger, opened: Opened, only: Mapping[str, Collection[str]] | None
) -> Iterator[tuple[str, list[tuple[str, ActiveFile]]]]:
    """(period, files of images) of the model, by name of table; only those that may hold these places."""
    bounds = {period: within(places) for period, places in (only or {}).items()}

    def period(named: tuple[str, ActiveFile]) -> str:
        return named[1].file.partition["period"]

    def may_be_asked(active: ActiveFile) -> bool:
        return only is None or active.may_be_within(*bounds[active.file.partition["period"]])

    files = ((name, active_files(opened[name], ledger.model, None if only is None else set(only))) for name in IMAGES_IN)
    found = [(name, active) for name, of_table in files for active in of_table if may_be_asked(active)]
    for of, group in groupby(sorted(found, key=lambda named: (period(named), *named)), period):
        yield of, list(group)


def _new_decisions(ledger: Ledger, head: Head, closed: Closed) -> list[tuple[int, Judging]]:
    """(number, entry) of the decisions that are not in the table yet."""
    numbers = [number for number in ledger.entries.after(closed.noted) if number <= head.decided]
    found = ((number, read_entry(ledger, number)) for number in numbers)
    return [(number, entry) for number, entry in found if isinstance(entry, Judging)]
