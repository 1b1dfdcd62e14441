"""Finds the rows of objects that a slice holds again.

Only objects with `before` in the parts of a slice can have rows in the tables. Nothing here holds all of them: the parts are
summed up by period, which names the files to look at, and a file is compared with the objects that fall between its own URIs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.state import slices
from pipeline.state.entries import SlicePart
from pipeline.state.ledger import Ledger
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store, open_store
from pipeline.tables.files import ActiveFile
from pipeline.tables.identities import Bases, identities, identity_bounds
from schemas.days import period

PIECE_ROWS = 500_000
"""So many URIs of a file are in memory at once."""
OBJECTS_AT_ONCE = 500_000
BUFFER_BYTES = 8 << 20
"""Read at once of a column: files of other programs may have row groups larger than memory."""


class Span(NamedTuple):
    """The objects of one period that an earlier slice held: the first, the last, and the latest such slice."""

    first: str
    last: str
    before: int

    def plus(self, other: "Span") -> "Span":
        return Span(min(self.first, other.first), max(self.last, other.last), max(self.before, other.before))


class Planned(NamedTuple):
    """Objects that are planned again: their spans by period, and those of `may_change` among them."""

    spans: dict[str, Span]
    may_change: pa.Array


class PartJob(NamedTuple):
    """Sum up one part of a slice. may_change: objects whose outcome in the slice may change."""

    ledger: Ledger
    part: SlicePart
    may_change: pa.Array


class ScanJob(NamedTuple):
    """Look for the rows of some objects in one file."""

    output_uri: str
    table: str
    path: str
    objects: pa.Array
    bases: Bases


@dataclass(frozen=True)
class Replaced:
    """The objects of a slice that an earlier one held, except those in `kept`: rows of them go."""

    ledger: Ledger
    slice: int
    kept: pa.Array
    bases: Bases

    def among(self, uris: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Whether each of the rows at these URIs goes, (rows,) bool."""
        pieces = []
        for start in range(0, len(uris), PIECE_ROWS):
            identity = identities(uris[start : start + PIECE_ROWS].cast(pa.string()), self.bases)
            found = pa.array(np.zeros(len(identity), bool))
            bounds = pc.min_max(identity).as_py()
            for objects in self._near(bounds["min"], bounds["max"]):
                found = pc.or_(found, pc.is_in(identity, objects))
            pieces.append(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
        return pa.concat_arrays([pa.array([], pa.bool_()), *pieces])

    def _near(self, first: str, last: str) -> Iterator[pa.Array]:
        """Those from the first to the last of these names, at most about OBJECTS_AT_ONCE at a time."""
        waiting: list[pa.Array] = []
        for rows in slices.objects(self.ledger, self.slice, ["object", "before"], (first, last)):
            objects = rows["object"].filter(pc.is_valid(rows["before"]))
            waiting += objects.filter(pc.invert(pc.is_in(objects, self.kept))).chunks
            if sum(map(len, waiting)) >= OBJECTS_AT_ONCE:
                yield pa.concat_arrays(waiting)
                waiting = []
        if waiting:
            yield pa.concat_arrays(waiting)


def planned_again(job: PartJob) -> Planned:
    """The objects of the part that an earlier slice held."""
    spans: dict[str, Span] = {}
    may_change = []
    for rows in slices.objects_of_part(job.ledger, job.part, ["object", "date", "before"]):
        again = rows.filter(pc.is_valid(rows["before"]))
        may_change += again["object"].filter(pc.is_in(again["object"], job.may_change)).chunks
        by_date = again.group_by("date").aggregate([("object", "min"), ("object", "max"), ("before", "max")])
        for row in by_date.to_pylist():
            span, of = Span(row["object_min"], row["object_max"], row["before_max"]), period(row["date"])
            spans[of] = spans[of].plus(span) if of in spans else span
    return Planned(spans, pa.chunked_array(may_change, pa.string()).combine_chunks())


def may_hold(active: ActiveFile, span: Span, ledger: Ledger, bases: Bases) -> bool:
    """Whether a file of the period may hold rows of the span's objects, as far as its statistics tell.

    Such rows were written by the slice `before` or an earlier one.
    """
    if active.first_run is not None and active.first_run > ledger.run_id(span.before):
        return False
    if active.first_uri is None or active.last_uri is None:
        return True
    bounds = identity_bounds(active.first_uri, active.last_uri, bases)
    return bounds is None or (bounds[0] <= span.last and bounds[1] >= span.first)


def find_objects(job: ScanJob) -> pa.Array:
    """Those of the job's objects that have rows in the file."""
    found = pa.array(np.zeros(len(job.objects), bool))
    for piece in _identities(open_store(job.output_uri), job.table, job.path, job.bases):
        found = pc.or_(found, pc.is_in(job.objects, piece))
    return job.objects.filter(found)


def _identities(store: Store, table: str, path: str, bases: Bases) -> Iterator[pa.Array]:
    """The identities of a file's rows, in order, at most PIECE_ROWS at a time."""
    with open_ranged(store, f"{table}/{path}") as file:
        for batch in pq.ParquetFile(file, buffer_size=BUFFER_BYTES).iter_batches(PIECE_ROWS, columns=["uri"]):
            yield identities(batch.column("uri").cast(pa.string()), bases)
