"""The inventory: the fold of a ledger's sealed slices and nothing else, kept so that planning need not read all slices again.

<ledger>/inventory/bases/9999/999987-000012.json   what is folded: a `Base`, named by its last entry, put if absent
<ledger>/inventory/files/<time>-<random>.parquet   its rows, schemas/inventory.py

A base is never wrong, only old: whoever reads an older one reads more slices as they are. So a fold may be repeated, or
left out.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.state.dated_names import named_at
from pipeline.state.entries import Head, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.numbered import Numbered
from pipeline.state.outcomes import Outcomes, tallied
from pipeline.state.state_file import intact
from pipeline.state.tiers import Tier, files_prefix, merged, slice_rows, tier_rows, write_tier

SLICES_AT_ONCE = 16
"""Merged together; each needs a few megabytes."""

KEEP_S = 86_400.0
"""No fold and no planning takes longer."""


class Base(BaseModel):
    """What is folded. head: of the entries up to the last one folded, no slices in it.

    tiers: old to new.  untallied: folded slices whose tally was missing then; their outcomes are laid over when it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal[1] = 1
    head: Head = Head()
    tiers: tuple[Tier, ...] = ()
    untallied: tuple[int, ...] = ()
    written_at: datetime | None = None

    @property
    def through(self) -> int:
        """The number of the last entry folded; 0 for none."""
        return self.head.number


def bases(ledger: Ledger) -> Numbered:
    return Numbered(ledger.store, f"{ledger.prefix}/inventory/bases")


def read_base(ledger: Ledger) -> Base:
    """The newest base; an empty one before the first fold. Raises DamagedState."""
    number = bases(ledger).newest()
    return base_numbered(ledger, number) if number else Base()


def base_numbered(ledger: Ledger, number: int) -> Base:
    """Raises Gone, DamagedState."""
    with intact(bases(ledger).key(number)):
        return Base.model_validate_json(bases(ledger).get(number))


def fold(ledger: Ledger, base: Base, head: Head) -> Base:
    """Fold the sealed slices up to `head` and put the base of that number; that of somebody else, if he was first.

    Args:
        base: what is folded already.
        head: of entries from the base on, all its slices after the base among them.
    Raises:
        DamagedState: a file is not what was written.
    """
    if head.number <= base.through:
        return base
    slices = [number for number in head.slices if number > base.through]
    done = set(tallied(ledger, [*base.untallied, *slices]))
    tiers, untallied = base.tiers, base.untallied
    for start in range(0, len(slices), SLICES_AT_ONCE):
        tiers, untallied = _with_slices(ledger, tiers, untallied, slices[start : start + SLICES_AT_ONCE], done)
    folded = Base(head=replace(head, slices=()), tiers=tiers, untallied=untallied, written_at=datetime.now(UTC))
    if bases(ledger).put_new(folded.through, folded.model_dump_json().encode()):
        return folded
    return base_numbered(ledger, head.number)


def _with_slices(
    ledger: Ledger, tiers: tuple[Tier, ...], untallied: tuple[int, ...], slices: list[int], done: set[int]
) -> tuple[tuple[Tier, ...], tuple[int, ...]]:
    """The tiers with a new one of these slices and of the tiers that are not more than twice as large; what is untallied then.

    Args:
        done: slices that have a tally.
    """
    sealed = [(number, read_slice(ledger, number)) for number in reversed(slices)]
    runs = [slice_rows(ledger, number, [part.name for part in entry.parts]) for number, entry in sealed]
    rows, first_slice = sum(entry.objects for _, entry in sealed), slices[0]
    kept = list(tiers)
    while kept and 2 * rows >= kept[-1].rows:
        tier = kept.pop()
        runs.append(tier_rows(ledger, tier))
        rows, first_slice = rows + tier.rows, tier.first_slice
    untallied = (*untallied, *slices)
    rewritten = [number for number in untallied if number >= first_slice and number in done]
    written = write_tier(ledger, merged(runs, Outcomes(ledger, rewritten)), first_slice, slices[-1])
    return (*kept, *[written][: written.rows]), tuple(number for number in untallied if number not in rewritten)


def unreferenced(ledger: Ledger, min_age_s: float = KEEP_S) -> list[str]:
    """Keys of inventory files that nobody needs: leftovers of lost and killed folds, and of tiers that were merged.

    Args:
        min_age_s: files written since then are kept, whose base may be still to come; and those of every base that was the
            newest at some time since then, from which somebody may be planning. Those of the newest two are always kept.
    """
    since = datetime.now(UTC) - timedelta(seconds=min_age_s)
    named = {file.name for base in _needed(ledger, since) for tier in base.tiers for file in tier.files}
    prefix = files_prefix(ledger)
    names = [entry.key.removeprefix(prefix) for entry in ledger.store.list(prefix)]
    return [prefix + name for name in names if name not in named and named_at(name) < since]


def _needed(ledger: Ledger, since: datetime) -> Iterator[Base]:
    """The newest two bases, and those that were the newest at some time since then."""
    for place, number in enumerate(reversed(bases(ledger).after(0))):
        base = base_numbered(ledger, number)
        yield base
        if place and (base.written_at is None or base.written_at <= since):
            return
