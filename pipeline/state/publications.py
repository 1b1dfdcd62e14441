"""The output's one sequence of publications: a redo log of manifests, each closed by a seal.

`_flowscore/publications/` holds the manifests and `_flowscore/published/` the seals, both numbered from 1. A manifest is put
only once the one before is sealed; whoever finds it completes it, by pipeline/tables/publication.py. Seal 0 is an empty output.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pipeline.state.numbered import Numbered
from pipeline.storage.store import open_store

Kind = Literal["slice", "compaction", "rekey", "verdicts", "drift"]


class DataFile(NamedTuple):
    """One Parquet file of a table: path below the table, size in bytes, partition values, Delta statistics (JSON)."""

    path: str
    size: int
    partition: dict[str, str]
    stats: str = ""


@dataclass(frozen=True)
class Change:
    """What a publication does to one table. schema: the columns that its files need, as an Arrow IPC schema in hex."""

    add: tuple[DataFile, ...] = ()
    remove: tuple[DataFile, ...] = ()
    schema: str = ""


@dataclass(frozen=True)
class Manifest:
    """A publication, written ahead. attempt: random, tells the publisher whether a lost put was his.

    slice: the slice that it closes; None for other kinds.  skipped: earlier slices of the ledger that stay open.
    rekey: the entry whose key pattern all rows have after it; 0 when it is no rekey.
    judged: the last entry of a rule by which all rows are judged after it; 0 when it decides none anew.
    """

    number: int
    attempt: str
    model: str
    kind: Kind
    slice: int | None
    skipped: tuple[int, ...]
    changes: dict[str, Change]
    written_at: str
    rekey: int = 0
    judged: int = 0

    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, body: bytes) -> "Manifest":
        read = json.loads(body)
        changes = {name: _change(change) for name, change in read.pop("changes").items()}
        return cls(changes=changes, skipped=tuple(read.pop("skipped")), **read)


@dataclass(frozen=True)
class Closed:
    """Which slices of a ledger are closed: every one up to `through` except those in `still_open`.

    publication: the ledger's last one.  rekeyed: the last entry of a rekey that is in the tables.
    judged: the last entry of a rule by which the rows are judged; 0 after a rekey, since other keys make other pieces and lots.
    noted: the last entry of a rule that is in the table `decisions`.
    charted_through, charted_open, charted_by: `through`, `still_open` and `judged` when nights were last charted for drift.
    """

    publication: int = 0
    through: int = 0
    still_open: tuple[int, ...] = ()
    rekeyed: int = 0
    judged: int = 0
    noted: int = 0
    charted_through: int = 0
    charted_open: tuple[int, ...] = ()
    charted_by: int = 0

    @property
    def uncharted(self) -> int | None:
        """The first slice that was published since nights were last charted; 0 for all, None if there is none."""
        if self.charted_by != self.judged:
            return 0
        late = set(self.charted_open) - set(self.still_open)
        later = (each for each in range(self.charted_through + 1, self.through + 1) if each not in self.still_open)
        return min(late, default=next(later, None))

    def holds(self, slice_number: int) -> bool:
        return slice_number <= self.through and slice_number not in self.still_open

    def after(self, manifest: Manifest) -> "Closed":
        """The same once a publication of the ledger is complete."""
        rekeyed = max(self.rekeyed, manifest.rekey)
        judged = 0 if rekeyed > self.rekeyed else max(self.judged, manifest.judged)
        noted = max(self.noted, manifest.judged)
        now = replace(self, publication=manifest.number, rekeyed=rekeyed, judged=judged, noted=noted)
        if rekeyed > self.rekeyed:
            now = replace(now, charted_by=0)
        if manifest.kind == "drift":
            now = replace(now, charted_through=self.through, charted_open=self.still_open, charted_by=self.judged)
        if manifest.slice is None:
            return now
        left = tuple(sorted({*self.still_open, *manifest.skipped} - {manifest.slice}))
        return replace(now, through=max(self.through, manifest.slice), still_open=left)


@dataclass(frozen=True)
class Seal:
    """Publication `number` is complete. versions: of each table that exists.  ledgers: by model name."""

    number: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    ledgers: dict[str, Closed] = field(default_factory=dict)
    sealed_at: str = ""

    def closed(self, model: str) -> Closed:
        return self.ledgers.get(model, Closed())

    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, body: bytes) -> "Seal":
        read = json.loads(body)
        ledgers = {model: _closed(closed) for model, closed in read.pop("ledgers").items()}
        return cls(ledgers=ledgers, **read)


@dataclass(frozen=True)
class Publications:
    """The sequence of an output."""

    output_uri: str

    @property
    def manifests(self) -> Numbered:
        return Numbered(open_store(self.output_uri), "_flowscore/publications")

    @property
    def seals(self) -> Numbered:
        return Numbered(open_store(self.output_uri), "_flowscore/published")

    def last_seal(self) -> Seal:
        """The newest seal; number 0 when nothing was ever published."""
        number = self.seals.newest()
        return self.seal(number) if number else Seal()

    def seal(self, number: int) -> Seal:
        return Seal.parse(self.seals.get(number))

    def seals_since(self, moment: datetime) -> list[Seal]:
        """The newest seal that was there at that moment, if there was one, and every later one; ascending, a request each."""
        found: list[Seal] = []
        for number in range(self.seals.newest(), 0, -1):
            found.insert(0, self.seal(number))
            if datetime.fromisoformat(found[0].sealed_at) <= moment:
                break
        return found

    def manifest(self, number: int) -> Manifest:
        return Manifest.parse(self.manifests.get(number))


def _change(read: dict[str, Any]) -> Change:
    return Change(
        tuple(DataFile(*file) for file in read["add"]), tuple(DataFile(*file) for file in read["remove"]), read["schema"]
    )


def _closed(read: dict[str, Any]) -> Closed:
    return Closed(**read | {name: tuple(read.get(name, ())) for name in ("still_open", "charted_open")})
