"""The entries of a ledger's one sequence, and what they add up to.

Who wants to add an entry reads the last number k first, decides on what he sees, and puts k + 1 if it is absent. Who loses the
number decides anew. So a slice never has a digest that a promotion before it has replaced.
"""

import contextlib
import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.input.identity import Mode
from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Gone
from pipeline.verdicts.rule import Rule
from schemas.days import is_day

LAYOUT = 1


class NoSuchSlice(StateError, ValueError):
    """The number is not that of a slice of this ledger."""


class OtherKeys(StateError, ValueError):
    """The ledger reads paths, or names images, in another way."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Created(_Entry):
    """The first entry: what never changes in a ledger."""

    kind: Literal["created"] = "created"
    layout: int = LAYOUT
    image_id: Mode
    key_pattern: str | None


class Promotion(_Entry):
    """From production day `from_day` on, images are scored by the model of this digest.

    from_day: ISO day; None: from this entry on, whatever the date (ledgers without ISO days, and the first model).
    """

    kind: Literal["promotion"] = "promotion"
    digest: str
    from_day: str | None = None
    artifact: dict[str, Any]


class Rekey(_Entry):
    """From here on the key columns follow this pattern; a publication rewrites those of earlier rows."""

    kind: Literal["rekey"] = "rekey"
    key_pattern: str | None


class Judging(_Entry):
    """From here on the scores of this model become verdicts by this rule, those that are in the tables too.

    The calibration that it names lies in the ledger. before: the rule until then.  decided_at: ISO time with offset.
    """

    kind: Literal["judging"] = "judging"
    digest: str
    rule: Rule
    before: Rule
    decided_by: str
    decided_at: str


class SlicePart(_Entry):
    """name: random, of its folder.  first: number of its first unit.  objects, units: how many."""

    name: str
    first: int
    objects: int
    units: int


class Slice(_Entry):
    """A sealed slice: all that is needed to score and publish it, whatever the command is that does.

    scorings: the settings of its units, by their column `scoring`; one for each model digest.
    promotions: numbers of the entries that promoted those digests.
    places: in mode `key`, every URI that an input of this name was ever at.
    images: known ones; streams: units whose images are counted when they are read.  size: bytes to read.
    ignored: listed objects that no source reads.  last_day: latest ISO day that this or an earlier slice has planned.
    replans: objects that an earlier slice holds.
    """

    kind: Literal["slice"] = "slice"
    parts: tuple[SlicePart, ...]
    scorings: tuple[ScoringConfig, ...]
    promotions: tuple[int, ...]
    places: tuple[str, ...] = ()
    objects: int
    units: int
    images: int
    streams: int
    size: int
    ignored: int
    replans: int
    last_day: str | None
    planned_at: str
    code_version: str

    @property
    def newest_scoring(self) -> ScoringConfig:
        """The settings of the newest model that scores in it."""
        return self.scorings[self.promotions.index(max(self.promotions))]


AnyEntry = Created | Promotion | Rekey | Judging | Slice
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(Annotated[AnyEntry, Field(discriminator="kind")])


class Promoted(_Entry):
    """A promotion with the number of its entry."""

    number: int
    from_day: str | None
    digest: str


class Judged(_Entry):
    """The newest rule for a model, with the number of its entry."""

    number: int
    digest: str
    rule: Rule


@dataclass(frozen=True)
class Head:
    """What a ledger's entries up to `number` add up to; number 0 is a ledger that does not exist yet.

    places: (input name, URI) of every named input.
    slices: numbers of the slices among the entries that were read, ascending.
    rekeyed: number of the last rekey; 0 without any.
    judged: the newest rule of each model that has one, by number.
    """

    number: int = 0
    image_id: Mode = "uri"
    key_pattern: str | None = None
    promotions: tuple[Promoted, ...] = ()
    last_day: str | None = None
    places: tuple[tuple[str, str], ...] = ()
    slices: tuple[int, ...] = ()
    rekeyed: int = 0
    judged: tuple[Judged, ...] = ()

    @property
    def decided(self) -> int:
        """Number of the last entry that decided a rule; 0 without any."""
        return self.judged[-1].number if self.judged else 0

    @property
    def calibrated(self) -> bool:
        """Whether scores of some model are judged."""
        return any(judged.rule.calibration is not None for judged in self.judged)

    def rule_of(self, digest: str) -> Rule | None:
        """The rule for the scores of a model; None if none was ever decided."""
        return next((judged.rule for judged in self.judged if judged.digest == digest), None)

    def first_rule(self) -> Rule:
        """What the rule of a version that has none yet begins as: the one that was decided last, of whichever version, without
        its calibration."""
        return self.judged[-1].rule.model_copy(update={"calibration": None}) if self.judged else Rule()

    @property
    def digest(self) -> str | None:
        """The digest that was promoted last."""
        return self.promotions[-1].digest if self.promotions else None

    def digest_of(self, date: str) -> str:
        """The digest that scores images of a production day; a date that is no ISO day goes with the last promotion."""
        for promotion in reversed(self.promotions):
            if promotion.from_day is None or not is_day(date) or promotion.from_day <= date:
                return promotion.digest
        return self.promotions[0].digest

    def plus(self, number: int, entry: AnyEntry) -> "Head":
        head = replace(self, number=number)
        if isinstance(entry, Created):
            return replace(head, image_id=entry.image_id, key_pattern=entry.key_pattern)
        if isinstance(entry, Promotion):
            promoted = Promoted(number=number, from_day=entry.from_day, digest=entry.digest)
            return replace(head, promotions=(*self.promotions, promoted))
        if isinstance(entry, Rekey):
            return replace(head, key_pattern=entry.key_pattern, rekeyed=number)
        if isinstance(entry, Judging):
            others = (judged for judged in self.judged if judged.digest != entry.digest)
            return replace(head, judged=(*others, Judged(number=number, digest=entry.digest, rule=entry.rule)))
        named = {(str(entry.scorings[0].source.input_name), place) for place in entry.places}
        places = tuple(sorted({*self.places, *named}))
        return replace(head, last_day=entry.last_day, places=places, slices=(*self.slices, number))


def read_entry(ledger: Ledger, number: int) -> AnyEntry:
    """Raises Gone without such an entry, OtherLayout for an entry of another version."""
    return _ENTRY.validate_json(ledger.entries.get(number))


@functools.lru_cache(maxsize=64)
def read_slice(ledger: Ledger, number: int) -> Slice:
    """The sealed slice of that number. Raises NoSuchSlice."""
    entry = None
    with contextlib.suppress(Gone):
        entry = read_entry(ledger, number)
    if not isinstance(entry, Slice):
        raise NoSuchSlice(f"slice must be one of model {ledger.model}; got {number}. `flowscore doctor --output` lists them")
    return entry


@functools.lru_cache(maxsize=4096)
def is_slice(ledger: Ledger, number: int) -> bool:
    """Whether that entry is a slice; it never changes."""
    return isinstance(read_entry(ledger, number), Slice)


def read_head(ledger: Ledger, base: Head = Head()) -> Head:
    """What the entries add up to, given what those up to `base.number` do. One listing and one request for each later entry."""
    head = base
    for number in ledger.entries.after(base.number):
        head = head.plus(number, read_entry(ledger, number))
    return head


def check_keys(ledger: Ledger, head: Head, image_id: Mode, key_pattern: str | None) -> None:
    """Raises OtherKeys for settings that do not fit a ledger; any fit one that does not exist yet."""
    if head.number and head.image_id != image_id:
        raise OtherKeys(
            f"image_id must stay {head.image_id!r} for model {ledger.model} in {ledger.output_uri}; got {image_id!r}. "
            "Leave it as it is, or choose another --output"
        )
    if head.number and head.key_pattern != key_pattern:
        raise OtherKeys(
            f"key_pattern must stay {head.key_pattern!r} for model {ledger.model} in {ledger.output_uri}; got "
            f"{key_pattern!r}. Give that one, or change it for all rows with `flowscore rekey`"
        )


def add_entry(ledger: Ledger, head: Head, entry: AnyEntry) -> bool:
    """Put the entry after `head`; False when somebody else's is there: read the head and decide anew.

    An entry of ours whose answer was lost also gives False. Reading the head then shows it, and there is nothing left to do.
    """
    return ledger.entries.put_new(head.number + 1, entry.model_dump_json().encode())
