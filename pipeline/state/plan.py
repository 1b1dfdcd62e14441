"""Planning: lists the input and seals a slice of what the ledger does not know yet, before any image byte is read.

The listing and the inventory have one order, the UTF-8 bytes of the key, so they are merged as streams and nothing here grows
with the archive. What is new depends on nothing but the objects: not on the date, the settings or the model of the day.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.input import registry
from pipeline.input.listing import Listing
from pipeline.state.dated_names import new_name
from pipeline.state.entries import Head, Slice, SlicePart, add_entry, check_keys, read_head
from pipeline.state.inventory import Base, fold, read_base
from pipeline.state.known import Known, is_new
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.state.state_file import WRITING
from pipeline.storage.objects import Object
from pipeline.storage.store import Store
from schemas.days import is_day
from schemas.inventory import OBJECTS
from schemas.plan import SCHEMA, DatedObject, Unit, UnitContent, unit_table
from schemas.version import VERSION

UNITS_PER_ROW_GROUP = 64
OBJECTS_PER_ROW_GROUP = 16_384
BATCH = 100_000
"""Objects that are compared at once; a unit of loose images holds objects of one batch."""
PART_OBJECTS = 1_000_000
FOLD_SLICES = 4
"""So many slices are read beside the inventory before they are folded into it."""


@dataclass(frozen=True)
class Wanted:
    """What a planner looks for, and how it is to be scored.

    scoring_of: settings for units that the model of this digest scores.  retry_errors: plan objects with errors again.
    """

    input_store: Store
    listing: Callable[[], Listing]
    scoring_of: Callable[[str], ScoringConfig]
    retry_errors: bool = False


def read_state(ledger: Ledger) -> tuple[Base, Head]:
    """The newest inventory, and the head of the ledger; `head.slices` are the slices that the inventory lacks."""
    base = read_base(ledger)
    return base, read_head(ledger, base.head)


def has_slices(ledger: Ledger) -> bool:
    """Whether anything was ever planned."""
    base, head = read_state(ledger)
    return bool(head.slices or base.through)


def plan_slice(ledger: Ledger, wanted: Wanted) -> int | None:
    """Seal a slice of what is new or changed; returns its number, or None when the ledger knows everything.

    The number is read before the listing, so that an old listing cannot add what a newer one has replaced. Who loses the
    number to another driver lists and compares again.

    Raises:
        OtherKeys: the ledger was rekeyed after its settings were checked.
    """
    while True:
        base, head = read_state(ledger)
        entry = _planned(ledger, base, head, wanted)
        if entry is None:
            return None
        if add_entry(ledger, head, entry):
            return head.number + 1


def fold_if_due(ledger: Ledger) -> None:
    """Keep the number of slices that a planner reads small."""
    base, head = read_state(ledger)
    if len(head.slices) >= FOLD_SLICES:
        fold(ledger, base, head)


def _planned(ledger: Ledger, base: Base, head: Head, wanted: Wanted) -> Slice | None:
    source = wanted.scoring_of(head.promotions[-1].digest).source
    check_keys(ledger, head, source.image_id, source.key_pattern)
    listing = wanted.listing()
    known = Known(ledger, base, head.slices, source.identity_base)
    objects = iter(listing)
    draft = _Draft(ledger, head, wanted)
    with tempfile.TemporaryDirectory(prefix="flowscore-plan-") as folder:
        while batch := list(islice(objects, BATCH)):
            listed = pa.table(
                {
                    "object": pa.array([source.identity_base + entry.key for entry in batch], pa.string()),
                    "etag": pa.array([entry.etag for entry in batch], pa.string()),
                    "stamp": pa.array([entry.stamp for entry in batch], pa.string()),
                }
            )
            found = known.of(listed["object"].combine_chunks())
            fresh = is_new(listed, found, wanted.retry_errors)
            if pc.any(fresh).as_py():
                rows = pc.indices_nonzero(fresh)
                entries = [batch[index] for index in rows.to_pylist()]
                draft.add(entries, listed.take(rows), found.take(rows), Path(folder))
        return draft.entry(listing.ignored, Path(folder))


@dataclass
class _Draft:
    """The parts of a slice while it is planned."""

    ledger: Ledger
    head: Head
    wanted: Wanted
    scorings: dict[str, ScoringConfig] = field(default_factory=dict)
    parts: list[SlicePart] = field(default_factory=list)
    objects: int = 0
    units: int = 0
    images: int = 0
    streams: int = 0
    size: int = 0
    replans: int = 0
    last_day: str | None = None
    waiting_units: list[pa.Table] = field(default_factory=list)
    waiting_objects: list[pa.Table] = field(default_factory=list)

    def add(self, entries: list[Object], listed: pa.Table, found: pa.Table, folder: Path) -> None:
        """Take new objects in key order. found: what the ledger knows of each."""
        source = self._scoring(self.head.promotions[-1].digest).source
        names = [registry.claiming(entry.key) or "" for entry in entries]
        firsts = found["date"].to_pylist()
        dated = [source.dated(entry, name, first) for entry, name, first in zip(entries, names, firsts, strict=True)]
        for name in dict.fromkeys(names):
            group = [entry for entry, of in zip(dated, names, strict=True) if of == name]
            contents = registry.source(name).plan(iter(group), source, self.wanted.input_store)
            self.waiting_units.append(unit_table(self._unit(content) for content in contents))
        self.objects += len(entries)
        self.replans += len(entries) - found["slice"].null_count
        days = [entry.date for entry in dated if is_day(entry.date)]
        self.last_day = max([*days, *([self.last_day] if self.last_day else [])], default=None)
        self.waiting_objects.append(_object_rows(listed, dated, found))
        if sum(table.num_rows for table in self.waiting_objects) >= PART_OBJECTS:
            self._end_part(folder)

    def entry(self, ignored: int, folder: Path) -> Slice | None:
        """The slice, whose parts are all written; None when it holds nothing."""
        self._end_part(folder)
        if not self.parts:
            return None
        days = [day for day in (self.last_day, self.head.last_day) if day]
        promoted = {promotion.digest: promotion.number for promotion in self.head.promotions}
        source = next(iter(self.scorings.values())).source
        name = source.input_name
        places = tuple(sorted({source.input_uri, *(uri for of, uri in self.head.places if of == name)})) if name else ()
        return Slice(
            parts=tuple(self.parts),
            scorings=tuple(self.scorings.values()),
            promotions=tuple(promoted[digest] for digest in self.scorings),
            places=places,
            objects=self.objects,
            units=self.units,
            images=self.images,
            streams=self.streams,
            size=self.size,
            ignored=ignored,
            replans=self.replans,
            last_day=max(days, default=None),
            planned_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=VERSION,
        )

    def _unit(self, content: UnitContent) -> Unit:
        """The content as the slice's next unit, which is counted."""
        scoring = self._scoring(self.head.digest_of(content.date))
        unit_id = scoring.unit_id(content, self.head.number + 1)
        index = list(self.scorings).index(scoring.model_digest)
        unit = Unit(number=self.units, unit_id=unit_id, scoring=index, **vars(content))
        self.units += 1
        self.images += content.images or 0
        self.streams += content.images is None
        self.size += content.size
        return unit

    def _scoring(self, digest: str) -> ScoringConfig:
        if digest not in self.scorings:
            self.scorings[digest] = self.wanted.scoring_of(digest)
        return self.scorings[digest]

    def _end_part(self, folder: Path) -> None:
        if not self.waiting_objects:
            return
        name = new_name()
        objects, units = pa.concat_tables(self.waiting_objects), pa.concat_tables(self.waiting_units)
        self._put(name, "units", units, UNITS_PER_ROW_GROUP, folder)
        self._put(name, "objects", objects, OBJECTS_PER_ROW_GROUP, folder)
        first = self.units - units.num_rows
        self.parts.append(SlicePart(name=name, first=first, objects=objects.num_rows, units=units.num_rows))
        self.waiting_units, self.waiting_objects = [], []

    def _put(self, name: str, what: str, rows: pa.Table, row_group_rows: int, folder: Path) -> None:
        path = folder / f"{what}.parquet"
        schema = SCHEMA if what == "units" else OBJECTS
        with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False, **WRITING) as writer:
            writer.write_table(rows.cast(schema), row_group_size=row_group_rows)
        self.ledger.store.put_new_file(self.ledger.part_key(name, what), path)


def _object_rows(listed: pa.Table, dated: list[DatedObject], found: pa.Table) -> pa.Table:
    columns = [listed["object"], listed["etag"], listed["stamp"], pa.array([entry.date for entry in dated]), found["slice"]]
    return pa.table(columns, schema=OBJECTS)
