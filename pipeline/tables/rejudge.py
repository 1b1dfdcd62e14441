"""Brings all rows of a model under the ledger's newest rules: reads no image, scores nothing, and rewrites what differs.

A rule is an entry (pipeline/state/judges.py), and then a publication that judges all rows anew and adds to `decisions`. Whoever
finds the entry without its publication can finish it. Slices are published by rules that are in force only, so that all rows
of a seal are judged by the same.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa

from pipeline.state.entries import Head, Judging, read_entry
from pipeline.state.judges import judge_of
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Change, Closed, DataFile, Seal
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import arrow_schema, check_fits
from pipeline.tables.drift_rows import DriftRow, nights_of, read_drift
from pipeline.tables.files import ActiveFile, active_files
from pipeline.tables.lot_rows import Decided, known_lots, write_lots
from pipeline.tables.publication import Draft, Handles, MapFunction, Opened, publish
from pipeline.tables.rewrite import RewriteJob, rewrite
from pipeline.tables.seen_images import FileJob, Judges, see_file
from pipeline.tables.slice_verdicts import IMAGES_IN, judge_parts
from pipeline.tables.writer import PartitionWriter
from pipeline.verdicts.shown import within
from schemas import decisions, lots, scores


class Rejudged(NamedTuple):
    """files: of `scores` that had other verdicts and were written anew, and how many rows they have.  lots: new revisions."""

    files: int = 0
    rows: int = 0
    lots: int = 0


def in_force(head: Head, closed: Closed) -> bool:
    """Whether the rows in the tables are judged by the newest rules."""
    return head.decided <= closed.judged


class OtherRules(Exception):
    """The rows in the tables are not judged by the newest rules yet: `rejudge` first."""


def judges_of(ledger: Ledger, head: Head, charted: Sequence[DriftRow]) -> tuple[Judges, dict[str, int]]:
    """By digest, the judges of models that have a calibration, and the numbers of their rules. Raises LostCalibration.

    Args:
        charted: all rows of the ledger in `drift`.
    """
    judged = [of for of in head.judged if of.rule.calibration is not None]
    judges = {}
    for of in judged:
        judge, nights = judge_of(ledger, head, of.digest), nights_of(charted, of.digest, of.rule.calibration)
        judges[of.digest] = replace(judge, suspended=nights[0], watched=nights[1]) if any(nights) else judge
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
        changes, done = _changes(ledger, head, opened, map_fn)
        new = _new_decisions(ledger, head, closed)
        if new:
            changes["decisions"] = Change(tuple(_write_decisions(ledger, new)), schema=schema_text(decisions.SCHEMA))
        return Draft(seal, ledger.model, "verdicts", changes, judged=head.decided)

    publish(ledger.output_uri, prepare, handles)
    return done


def _changes(ledger: Ledger, head: Head, opened: Opened, map_fn: MapFunction) -> tuple[dict[str, Change], Rejudged]:
    judges, entries = judges_of(ledger, head, read_drift(ledger, opened["drift"]))
    return judged_anew(ledger, judges, entries, opened, map_fn)


def judged_anew(
    ledger: Ledger,
    judges: Judges,
    entries: Mapping[str, int],
    opened: Opened,
    map_fn: MapFunction,
    only: Mapping[str, Collection[str]] | None = None,
) -> tuple[dict[str, Change], Rejudged]:
    """Judge rows in the tables anew; returns the changes in `scores` and `lots`. Files and lots that stay equal stay.

    Args:
        entries: of the judges' rules.
        only: places by period; None for all.
    """
    table = opened["scores"]
    if table is None or not judges:
        return {}, Rejudged()
    have = arrow_schema(table)
    schema = pa.schema([*have, *(column for column in scores.SCHEMA if column.name not in have.names)])
    check_fits(table, "scores", schema)
    add: list[DataFile] = []
    remove: list[DataFile] = []
    new_lots: list[DataFile] = []
    lot_count = 0
    for period, files in _by_period(ledger, opened, only):
        places = None if only is None else pa.array(sorted(only[period]), pa.string())
        looks = [FileJob(ledger, name, active.file, judges, only=places) for name, active in files]
        verdicts, found = judge_parts(list(map_fn(see_file, looks)), judges)
        known = known_lots(ledger, opened["lots"], period, judges)
        rows = Decided(ledger, judges, entries).rows(found, known, list(known) if only is None else only[period])
        new_lots += write_lots(ledger, period, rows, ledger.model)
        lot_count += len(rows)
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
    return changes, Rejudged(len(remove), sum(json.loads(file.stats)["numRecords"] for file in add), lot_count)


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


def _write_decisions(ledger: Ledger, decided: list[tuple[int, Judging]]) -> list[DataFile]:
    rows = []
    for number, entry in decided:
        old, new = entry.before.texts(), entry.rule.texts()
        rows += [
            {
                "model": ledger.model,
                "model_digest": entry.digest,
                "entry": number,
                "setting": setting,
                "old": old[setting],
                "new": new[setting],
                "decided_by": entry.decided_by,
                "decided_at": datetime.fromisoformat(entry.decided_at),
            }
            for setting in new
            if old[setting] != new[setting]
        ]
    with TemporaryDirectory(prefix="flowscore-publish-") as folder:
        partition = {"model": ledger.model}
        with PartitionWriter(ledger.store, "decisions", decisions.SCHEMA, partition, ledger.model, Path(folder)) as writer:
            writer.write(pa.Table.from_pylist(rows, decisions.SCHEMA))
    return writer.files
