"""Publishes one slice whose units are all committed. It can be repeated after a kill at any point, by any driver."""

import json
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.attempts import read_attempts
from pipeline.state.committed import IncompleteSlice
from pipeline.state.entries import Promotion, Slice, is_slice, read_entry, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Closed, Seal
from pipeline.state.sorted_files import SortedFiles
from pipeline.state.tally import add_up, read_failed
from pipeline.tables.held import HoldLimits, check_errors
from pipeline.tables.publication import Draft, Handles, MapFunction, Opened, publish, settled
from pipeline.tables.rejudge import OtherRules, in_force, judges_of, rejudge
from pipeline.tables.run_row import run_change
from pipeline.tables.slice_files import SliceFiles, slice_changes
from schemas.tally import MAY_CHANGE, Tally

TASK_BYTES = 2 << 30
"""Memory that a job of a publication holds at most, with Python and its libraries."""


def publish_slice(
    ledger: Ledger, number: int, limits: HoldLimits, map_fn: MapFunction = map, handles: Handles | None = None
) -> Tally:
    """Bring a slice into the tables, unless it is there already; returns its counts.

    Args:
        map_fn: applies a function to jobs, by default in this process, one after another; Ray tasks can do it too.
        handles: as for `publish`.
    Raises:
        IncompleteSlice: a unit of the slice is not committed whole.
        SliceHeld: nothing is published.
        TableConflict: a table does not fit the slice.
    """
    entry = read_slice(ledger, number)
    tally = add_up(ledger, number, entry, map_fn)
    failed = read_failed(ledger, number)
    may_change = failed.filter(pc.is_in(failed["outcome"], pa.array(MAY_CHANGE)))["object"].combine_chunks()

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        closed, head = seal.closed(ledger.model), read_state(ledger)[1]
        if closed.holds(number):
            return None
        if not in_force(head, closed):
            raise OtherRules
        later = superseded(ledger, number, closed)
        if len(later) < entry.objects:  # otherwise nothing is left of it, and it only has to be closed
            check_errors(ledger, number, tally, failed, later, limits)
        judges, entries = judges_of(ledger, head, opened)
        files = SliceFiles(ledger, number, entry, later, may_change, bases(entry), judges, entries, head)
        try:
            changes = slice_changes(files, opened, map_fn)
        except IncompleteSlice:
            if settled(ledger.output_uri).closed(ledger.model).holds(number):
                return None  # others have published it meanwhile, and its commits are cleaned already
            raise
        attempts = read_attempts(ledger, number)
        rule = head.rule_of(entry.newest_scoring.model_digest)
        calibration = None if rule is None else rule.calibration
        row = partial(run_change, ledger, number, entry, tally, attempts, artifact(ledger, entry), calibration)
        return Draft(seal, ledger.model, "slice", changes, number, skipped(ledger, number, closed), row=row)

    while True:
        try:
            publish(ledger.output_uri, prepare, handles)
            return tally
        except OtherRules:
            rejudge(ledger, map_fn, handles)


def superseded(ledger: Ledger, number: int, closed: Closed) -> pa.Array:
    """The objects of a slice that a higher slice has published: ascending; nearly always none. In memory is a piece of each."""
    published = (each for each in range(number + 1, closed.through + 1) if closed.holds(each) and is_slice(ledger, each))
    later = [each for each in published if read_slice(ledger, each).replans]  # a slice of new objects holds none of these
    if not later:
        return pa.array([], pa.string())
    mine, *others = (_objects(ledger, each) for each in (number, *later))
    found = [pa.array([], pa.string())]
    while (end := mine.buffered_to()) is not None:
        bounds = [bound for run in others if (bound := run.buffered_to()) is not None]
        if not bounds:
            break
        last = min([end, *bounds])
        held = pa.concat_arrays([found[0], *(piece for run in others for piece in _names(run, last))])
        found += [names.filter(pc.is_in(names, held)) for names in _names(mine, last)]
    return pa.concat_arrays(found)


def _objects(ledger: Ledger, number: int) -> SortedFiles:
    keys = [ledger.part_key(part.name, "objects") for part in read_slice(ledger, number).parts]
    return SortedFiles(ledger.store, keys, ["object"], lambda piece: piece)


def _names(objects: SortedFiles, last: str) -> list[pa.Array]:
    return [chunk for piece in objects.upto(last) for chunk in piece["object"].chunks]


def skipped(ledger: Ledger, number: int, closed: Closed) -> tuple[int, ...]:
    """Slices between the highest closed one and this one, which stay open."""
    return tuple(each for each in range(closed.through + 1, number) if is_slice(ledger, each))


def bases(entry: Slice) -> tuple[tuple[str, str], ...]:
    """(URI prefix, identity prefix) of every place that this input was ever at; none where URIs are identities."""
    return tuple((f"{place}/", entry.scorings[0].source.identity_base) for place in entry.places)


def artifact(ledger: Ledger, entry: Slice) -> str | None:
    """The config of the newest model that scores the slice, JSON, as its promotion holds it."""
    promotion = read_entry(ledger, max(entry.promotions))
    return json.dumps(promotion.artifact, sort_keys=True) if isinstance(promotion, Promotion) else None
