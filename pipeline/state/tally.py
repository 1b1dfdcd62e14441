"""Adds up a slice whose units are all committed. The tally is written once, and two drivers write the same."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.archives import UNSUPPORTED
from pipeline.state import slices
from pipeline.state.commits import footer_of
from pipeline.state.committed import not_whole
from pipeline.state.entries import Slice, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import READING, WRITING, intact
from pipeline.storage.ahead import threads_ahead
from pipeline.storage.objects import Gone, Object
from pipeline.storage.ranged import open_ranged
from schemas.footer import Footer, StageSeconds
from schemas.scored_on import ScoredOn
from schemas.tally import MAY_CHANGE, SCHEMA, Tally

UNITS_PER_JOB = 4096
THREADS = 16
ROW_GROUP = 1 << 16
ARCHIVES_NAMED = 3
COUNTS = b"flowscore.tally"


class TallyJob(NamedTuple):
    """Add up the units first <= number < end."""

    ledger: Ledger
    slice: int
    first: int
    end: int


class Failed(NamedTuple):
    """An object with images that could not be scored: how many, and the error that says most about it."""

    object: str
    outcome: str
    images: int


class Counted(NamedTuple):
    """What a job counts, and the objects with errors in no order."""

    tally: Tally
    failed: list[Failed]


MapFunction = Callable[[Callable[[TallyJob], Counted], Iterable[TallyJob]], Iterable[Counted]]


def read_tally(ledger: Ledger, slice_number: int) -> Tally | None:
    """The counts of a slice; None while units of it are open."""
    key = ledger.tally_key(slice_number)
    try:
        with intact(key), open_ranged(ledger.store, key) as file:
            return Tally.parse(pq.read_metadata(file).metadata[COUNTS])
    except Gone:
        return None


def read_failed(ledger: Ledger, slice_number: int) -> pa.Table:
    """The objects with errors, rows of schemas/tally.py. The tally must exist."""
    key = ledger.tally_key(slice_number)
    with intact(key), open_ranged(ledger.store, key) as file:
        return pq.ParquetFile(file, **READING).read()


def add_up(ledger: Ledger, slice_number: int, entry: Slice, map_fn: MapFunction = map) -> Tally:
    """The counts of a slice, from its commits unless they were written down already. Raises IncompleteSlice."""
    known = read_tally(ledger, slice_number)
    if known is not None:
        return known
    jobs = [
        TallyJob(ledger, slice_number, first, min(first + UNITS_PER_JOB, entry.units))
        for first in range(0, entry.units, UNITS_PER_JOB)
    ]
    tally, failed = Tally(ignored=entry.ignored), dict[str, Failed]()
    for counted in map_fn(count_units, jobs):
        tally = _plus(tally, counted.tally)
        for each in counted.failed:
            failed[each.object] = _more(failed.get(each.object, each._replace(images=0)), each)
    with tempfile.TemporaryDirectory(prefix="flowscore-tally-") as folder:
        path, names = Path(folder) / "tally.parquet", sorted(failed)
        with pq.ParquetWriter(path, SCHEMA, compression="zstd", **WRITING) as writer:
            for start in range(0, len(names), ROW_GROUP):  # all of them as rows would take three times what `failed` takes
                rows = [failed[name]._asdict() for name in names[start : start + ROW_GROUP]]
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
            writer.add_key_value_metadata({COUNTS.decode(): tally.text()})
        ledger.store.put_new_file(ledger.tally_key(slice_number), path)
    return tally


def count_units(job: TallyJob) -> Counted:
    """One read of the end of every commit, and one more of those that hold errors."""
    ledger = job.ledger
    source_of = [scoring.source for scoring in read_slice(ledger, job.slice).scorings]
    commits = ledger.commits(job.slice, job.first, job.end)
    read = threads_ahead(lambda named: (named[0], named[1], *_read(ledger, named[2])), commits, THREADS)
    tally, failed = Tally(), list[Failed]()
    done: dict[int, list[tuple[int, Footer, list[dict]]]] = {}
    for number, part, footer, errors in read:
        done.setdefault(number, []).append((part, footer, errors))
    for unit in slices.outlines(ledger, job.slice, job.first, job.end):
        parts = done.get(unit.number, [])
        rows = sum(footer.scored + footer.errors for _, footer, _ in parts)
        whole = bool(parts) and [part for part, _, _ in parts] == list(range(len(parts))) and parts[-1][1].next_offset is None
        if not whole or unit.images not in (None, rows):
            raise not_whole(job.slice, unit, rows)
        errors = [row for _, _, rows_of_part in parts for row in rows_of_part]
        archives = [row["key"] for row in errors if row["error"] == UNSUPPORTED]
        tally = _plus(
            tally,
            Tally(
                scored=sum(footer.scored for _, footer, _ in parts),
                quarantined=len(errors),
                ignored=sum(footer.ignored for _, footer, _ in parts),
                bytes_read=sum(footer.bytes_read for _, footer, _ in parts),
                seconds=_seconds(footer.seconds for _, footer, _ in parts),
                reasons=dict(Counter(row["error"] for row in errors)),
                archives=tuple(archives[:ARCHIVES_NAMED]),
                archive_count=len(archives),
                scored_on=_images_by((footer.scored_on, footer.scored) for _, footer, _ in parts if footer.scored),
                examples={row["error"]: row["key"] for row in reversed(errors)},
            ),
        )
        failed += _failed(errors, source_of[unit.scoring].identity)
    return Counted(tally, failed)


def _read(ledger: Ledger, entry: Object) -> tuple[Footer, list[dict]]:
    with intact(entry.key), open_ranged(ledger.store, entry.key, entry.etag) as file:
        parquet = pq.ParquetFile(file, **READING)
        footer = footer_of(parquet.metadata.metadata)
        if not footer.errors:
            return footer, []
        rows = parquet.read(columns=["uri", "key", "error"]).to_pylist()
    return footer, [row for row in rows if row["error"] is not None]


def _failed(errors: list[dict], identity: Callable[[str], str]) -> Iterator[Failed]:
    by_uri: dict[str, list[str]] = {}
    for row in errors:
        by_uri.setdefault(row["uri"], []).append(row["error"])
    for uri, reasons in by_uri.items():
        passing = [reason for reason in reasons if reason in MAY_CHANGE]
        yield Failed(identity(uri), (passing or reasons)[0], len(reasons))


def _more(one: Failed, other: Failed) -> Failed:
    """Both units' failures of one object."""
    outcome = other.outcome if other.outcome in MAY_CHANGE else one.outcome
    return Failed(one.object, outcome, one.images + other.images)


def _plus(mine: Tally, more: Tally) -> Tally:
    return Tally(
        mine.scored + more.scored,
        mine.quarantined + more.quarantined,
        mine.ignored + more.ignored,
        mine.bytes_read + more.bytes_read,
        mine.seconds.plus(more.seconds),
        dict(Counter(mine.reasons) + Counter(more.reasons)),
        (*mine.archives, *more.archives)[:ARCHIVES_NAMED],
        mine.archive_count + more.archive_count,
        _images_by((*mine.scored_on, *more.scored_on)),
        {**more.examples, **mine.examples},
    )


def _images_by(counted: Iterable[tuple[ScoredOn, int]]) -> tuple[tuple[ScoredOn, int], ...]:
    """What scored, each once, in order, with its images."""
    images: Counter[ScoredOn] = Counter()
    for scored_on, count in counted:
        images[scored_on] += count
    return tuple(sorted(images.items()))


def _seconds(all_of_them: Iterable[StageSeconds]) -> StageSeconds:
    total = StageSeconds()
    for seconds in all_of_them:
        total = total.plus(seconds)
    return StageSeconds(*(round(spent, 6) for spent in total))
