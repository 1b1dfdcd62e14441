"""Publish finished slices that are not in the tables yet, merge small table files, delete what is no longer needed."""

import logging
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import ErrorShareError, PartialRunError, UsageError
from jobs.command.flags import Flag
from jobs.command.log import begin
from jobs.command.scored_ledgers import scored_ledgers
from pipeline.run import RunLimits
from pipeline.state.committed import IncompleteSlice
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.unclosed import unclosed
from pipeline.storage.store import open_store
from pipeline.tables import delta
from pipeline.tables.clean import clean
from pipeline.tables.compaction import compact
from pipeline.tables.held import HoldLimits, SliceHeld
from pipeline.tables.nights import chart_nights
from pipeline.tables.publication import settled
from pipeline.tables.publish_slice import publish_slice
from pipeline.tables.rejudge import rejudge

log = logging.getLogger("jobs.finalize")  # as a program, this file is called __main__

LIMITS = RunLimits.model_fields


class FinalizeSettings(BaseModel):
    """Settings of `flowscore finalize`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Flag[str] = Field(description="where `flowscore score` has put its results: s3://... or a directory")
    model: Flag[str | None] = Field(None, description="name of a model; default: every model under the output")
    slice: Flag[int | None] = Field(None, ge=1, description="publish this slice only")
    max_error_share: Flag[float] = Field(0.05, ge=0, le=1, description=str(LIMITS["max_error_share"].description))
    min_errors: Flag[int] = Field(20, ge=1, description=str(LIMITS["min_errors"].description))
    accept_errors: Flag[bool] = Field(False, description="publish the slice of --slice at any share of errors")
    compact: Flag[bool] = Field(False, description="also merge small files of the tables, and drop replaced maps")
    clean: Flag[bool] = Field(False, description="also delete what is no longer needed, as described above")


@dataclass
class Left:
    """Slices that stay unpublished, by (model, slice): why."""

    held: dict[tuple[str, int], str] = field(default_factory=dict)
    open: dict[tuple[str, int], str] = field(default_factory=dict)


def main(settings: FinalizeSettings) -> None:
    """Publish slices whose work units are all scored. Published slices stay as they are.

    A slice that is held, or has open work units, holds no other back. --clean deletes the commits of published slices, whose
    rows are in the tables, table files that no version of the last 90 days needs, and what killed commands have left. It
    may run at any time, like every other command.
    """
    if settings.accept_errors and settings.slice is None:
        fix = "`flowscore doctor --output` lists the slices that are held, with their numbers."
        raise UsageError("--slice", "given with --accept-errors: one slice at a time", None, fix)
    output_uri = open_store(settings.output).uri
    chosen = choose(settings)
    begin()
    log.info("publishing what is finished in %s, of model(s) %s", output_uri, ", ".join(ledger.model for ledger in chosen))
    left, published = Left(), 0
    for ledger in chosen:
        for sentence in rejudge(ledger).sentences():
            print(f"model {ledger.model}: {sentence}")
        published += publish(ledger, settings, left)
        if read_state(ledger)[1].calibrated:
            chart_nights(ledger)
    if not published and not left.held and not left.open:
        print("nothing to publish: every slice is already in the tables")
    if settings.compact:
        for ledger in chosen:
            for name, (before, after) in compact(ledger).items():
                print(f"model {ledger.model}: {name}: {before:,} files merged into {after:,}")
    if settings.clean:
        for what, deleted in clean(output_uri).items():
            print(f"{what}: {deleted:,} deleted")
        print(f"rollback reaches back {delta.RETENTION_DAYS} days")
    for (model, number), why in [*left.held.items(), *left.open.items()]:
        print(f"model {model}: slice {number} is not published. {why}")
    if left.open:
        raise PartialRunError(f"partial: {len(left.open)} slice(s) have open work units. Repeat their `flowscore score`")
    if left.held:
        raise ErrorShareError(f"held: {len(left.held)} slice(s) have too many errors; the lines above say what to do")


def choose(settings: FinalizeSettings) -> list[Ledger]:
    """The ledgers that the settings name. Raises UsageError."""
    chosen = scored_ledgers(settings.output, settings.model)
    if settings.slice is not None and len(chosen) > 1:
        names = ", ".join(ledger.model for ledger in chosen)
        raise UsageError("--model", "given with --slice, as the output has several models", None, f"Models there: {names}.")
    if settings.slice is not None and settings.slice not in (waiting := _waiting(chosen[0])):
        fix = f"Waiting: {', '.join(map(str, waiting)) or 'none'}. `flowscore doctor --output` says more."
        raise UsageError("--slice", f"one of model {chosen[0].model} that is not published", settings.slice, fix)
    return chosen


def _waiting(ledger: Ledger) -> list[int]:
    """The slices that are not published."""
    return unclosed(ledger, settled(ledger.output_uri).closed(ledger.model))


def publish(ledger: Ledger, settings: FinalizeSettings, left: Left) -> int:
    """Publish what can be published of a ledger; returns how many slices, and adds the others to `left`."""
    published = 0
    for number in [number for number in _waiting(ledger) if settings.slice in (None, number)]:
        limits = HoldLimits(settings.max_error_share, settings.min_errors, settings.accept_errors)
        try:
            counts = publish_slice(ledger, number, limits)
        except SliceHeld as error:
            left.held[ledger.model, number] = str(error)
        except IncompleteSlice as error:
            left.open[ledger.model, number] = str(error)
        else:
            print(f"model {ledger.model}: published slice {number}: {counts.scored:,} scored, {counts.quarantined:,} in errors")
            published += 1
    return published


if __name__ == "__main__":
    run(main)
