"""Charts the nights of calibrated models for drift, and judges anew the nights that have drifted.

Every night with an ISO date that has rows in `scores` and none in `drift` gets its row, in the order of days, by a publication
of its own. What it depends on is in the tables and in the kept reference: no image and no commit is read. The same publication
takes the verdicts back of nights that it suspends, and watches the lots of nights that may have drifted.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pipeline.state.entries import Head
from pipeline.state.judges import judge_of
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Change, DataFile, Seal
from pipeline.tables.changes import schema_text
from pipeline.tables.decision_rows import decisions_change, threshold_rows
from pipeline.tables.drift_rows import DriftRow, read_drift, write_drift
from pipeline.tables.files import active_files
from pipeline.tables.night_images import GroupNight, LookJob, Night, NightsJob, nights_in, read_nights
from pipeline.tables.publication import Draft, Handles, MapFunction, Opened, publish, settled
from pipeline.tables.rejudge import OtherRules, in_force, judged_anew, judges_of, rejudge
from schemas import drift
from schemas.days import is_day, period

log = logging.getLogger(__name__)

JOB_IMAGES = 250_000
NOTED_FILES = 16
"""A look at so many files that found no night is worth a publication, which says that they need no other one."""

Found = Mapping[tuple[str, Night], int]
"""The number of new rows of a night, by model digest and night."""


def chart_nights(ledger: Ledger, map_fn: MapFunction = map, handles: Handles | None = None) -> list[DriftRow]:
    """Chart the nights that are not charted yet; returns their rows. It may be repeated after a kill at any point.

    Without a new slice it costs a look at the last seal. A ledger without calibration needs no call.

    Args:
        map_fn, handles: as for `publish_slice`.
    Raises:
        TableConflict: a column of a table does not fit.
        LostCalibration: the ledger's copy of a calibration is gone.
    """
    if settled(ledger.output_uri).closed(ledger.model).uncharted is None:
        return []
    log.info("model %s: comparing new nights with the reference nights, to see drift", ledger.model)
    charted: list[DriftRow] = []

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        nonlocal charted
        head, closed, charted = read_state(ledger)[1], seal.closed(ledger.model), []
        if not in_force(head, closed):
            raise OtherRules
        first = closed.uncharted
        if first is None:
            return None
        files = _files_since(ledger, first, opened)
        changes, charted = _changes(ledger, head, first, files, opened, map_fn) if files else ({}, [])
        return Draft(seal, ledger.model, "drift", changes) if charted or len(files) >= NOTED_FILES else None

    while True:
        try:
            publish(ledger.output_uri, prepare, handles)
            break
        except OtherRules:
            rejudge(ledger, map_fn, handles)
    for row in charted:
        if row.night.state in ("watch", "suspended"):
            where = ledger.model if row.group == "all" else f"{ledger.model}, {row.group}"
            log.warning("%s of model %s: %s", row.night.date, where, row.night.reason)
    return charted


def _files_since(ledger: Ledger, first: int, opened: Opened) -> list[DataFile]:
    """The files of `scores` that may hold nights of this slice or a later one; a night lies in a month."""
    return [
        active.file
        for active in active_files(opened["scores"], ledger.model, None)
        if is_day(f"{active.file.partition['period']}-01")
        and (active.last_run is None or active.last_run >= ledger.run_id(first))
    ]


def _changes(
    ledger: Ledger, head: Head, first: int, files: Sequence[DataFile], opened: Opened, map_fn: MapFunction
) -> tuple[dict[str, Change], list[DriftRow]]:
    """What to change in each table, and the new rows of `drift`."""
    before = read_drift(ledger, opened["drift"])
    judges, _ = judges_of(ledger, head, opened, before)
    looks = [LookJob(ledger, file, judges, ledger.run_id(first)) for file in files]
    found: Counter[tuple[str, Night]] = Counter()
    for counts in map_fn(nights_in, looks) if judges else ():
        found.update(counts)
    have = {(row.model_digest, (row.group, row.night.date)) for row in before}
    new = {night: count for night, count in found.items() if night not in have}
    rows, drifted = _charted(ledger, head, new, before, opened, map_fn) if new else ([], [])
    if not rows:
        return {}, []
    judges, entries = judges_of(ledger, head, opened, [*before, *rows])
    only: dict[str, set[str]] = defaultdict(set)
    for night in drifted:
        only[period(night.date)] |= set(night.places)
    changes, _, thresholds = judged_anew(ledger, judges, entries, opened, map_fn, only) if only else ({}, None, {})
    changes |= decisions_change(ledger, threshold_rows(ledger, head, thresholds))
    return changes | {"drift": Change(tuple(write_drift(ledger, rows)), schema=schema_text(drift.SCHEMA))}, rows


def _charted(
    ledger: Ledger, head: Head, new: Found, before: Sequence[DriftRow], opened: Opened, map_fn: MapFunction
) -> tuple[list[DriftRow], list[GroupNight]]:
    """The rows of new nights, and those of the nights that are watched or suspended."""
    from pipeline.state.drift_references import keep_reference, read_reference  # their statistics are slow to import
    from pipeline.verdicts.drift_chart import GroupChart
    from pipeline.verdicts.drift_reference import REFERENCE_NIGHTS

    rows: list[DriftRow] = []
    drifted: list[GroupNight] = []
    for digest in sorted({digest for digest, _ in new}):
        mine = {night: count for (of, night), count in new.items() if of == digest}
        judge = judge_of(ledger, head, digest)
        calibration = judge.rule.calibration
        assert calibration is not None
        charts: dict[str, GroupChart] = {}
        for group in sorted({group for group, _ in mine}):
            nights = [row.night for row in before if row[:3] == (digest, calibration, group)]
            kept = read_reference(ledger, digest, calibration, group)
            charts[group] = GroupChart(group, nights, kept, partial(keep_reference, ledger, digest, calibration))
        counts = Counter(group for group, _ in mine)
        referred = {
            (group, date): images
            for group, chart in charts.items()
            if chart.kept is None and len(chart.reference_nights()) + counts[group] >= REFERENCE_NIGHTS
            for date, images in chart.reference_nights().items()
        }
        jobs = [
            NightsJob(ledger, judge, nights, *_files(opened, ledger, nights))
            for of_nights in (referred, mine)
            for nights in _dealt_out(of_nights)
        ]
        for of_job in map_fn(read_nights, jobs):
            for night in of_job:
                if (night.group, night.date) in referred:
                    charts[night.group].remember(night.date, night.images)
                    continue
                row = charts[night.group].chart(night.date, night.images)
                if row is not None:
                    rows.append(DriftRow(digest, calibration, night.group, row))
                    drifted += [night] if row.state in ("watch", "suspended") else []
    return rows, drifted


def _dealt_out(nights: Mapping[Night, int]) -> Iterator[tuple[Night, ...]]:
    """The nights of one job after another, in the order of days: of one period, and about JOB_IMAGES images."""
    job: list[Night] = []
    images = 0
    for night in sorted(nights, key=lambda night: (night[1], night[0])):
        if job and (period(night[1]) != period(job[0][1]) or images >= JOB_IMAGES):
            yield tuple(job)
            job, images = [], 0
        job.append(night)
        images += nights[night]
    if job:
        yield tuple(job)


def _files(opened: Opened, ledger: Ledger, nights: Sequence[Night]) -> Iterator[tuple[DataFile, ...]]:
    """The files of `scores` and of `maps` that may hold images of these nights, which are of one period."""
    days = nights[0][1], nights[-1][1]
    for name in ("scores", "maps"):
        active = active_files(opened[name], ledger.model, {period(days[0])})
        yield tuple(each.file for each in active if each.may_be_within(days, None))
