"""A scoring run: finish the open slices, plan what is new, score it, publish it. A repeated run goes on where it stopped."""

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.config import InputConfig
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing, open_input
from pipeline.input.listing_file import ListingFile
from pipeline.slice_scoring import Engine, OnProgress, Patience, RunProgress, score_units
from pipeline.stages.config import StageConfig
from pipeline.state.attempts import Attempt
from pipeline.state.entries import Created, Promotion, Slice, read_entry, read_slice
from pipeline.state.judges import Ruling
from pipeline.state.lease import Lease
from pipeline.state.ledger import Ledger
from pipeline.state.plan import Wanted, fold_if_due, has_slices, plan_slice, read_state
from pipeline.state.promotion import Trained, prepare_ledger
from pipeline.state.publications import Closed
from pipeline.state.scoring_config import ScoringConfig
from pipeline.state.tally import read_tally
from pipeline.state.unclosed import unclosed
from pipeline.storage.store import Store
from pipeline.tables.compaction import compact_if_due
from pipeline.tables.held import HoldLimits, SliceHeld
from pipeline.tables.nights import chart_nights
from pipeline.tables.publication import Handles, settled
from pipeline.tables.publish_slice import TASK_BYTES, publish_slice
from pipeline.tables.rejudge import judge_anew
from pipeline.tables.rekey import rekey
from schemas.tally import Tally

log = logging.getLogger(__name__)


class RunLimits(BaseModel):
    """Limits of a run; none of them changes a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_error_share: float = Field(0.05, ge=0, le=1, description="share of errors above which a slice is held (exit 3)")
    min_errors: int = Field(20, ge=1, description="fewer errors than this never hold a slice")
    window_units: int = Field(20_000, gt=0, description="work units whose commits are listed at once")
    decode_timeout_s: float = Field(60.0, gt=0, description="seconds after which decoding of one image is abandoned")
    outage_s: float = Field(600.0, ge=0, description="seconds to wait for storage that does not answer at all")
    accept_errors: bool = Field(False, description="publish what this command scores whatever its error share is")


class EmptyInput(ValueError):
    """There is nothing to score."""


@dataclass
class RunResult:
    """The outcome of the command, by slice: the published ones, those with open units (number and reason), the held ones.

    judged: what was done because of another calibration or rate, in sentences.
    """

    model: str
    published: dict[int, Tally] = field(default_factory=dict)
    open: dict[int, dict[int, str]] = field(default_factory=dict)
    held: dict[int, str] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScoringRun:
    """A scoring run with checked settings.

    decode: settings that override the model's.  ruling: by what scores are judged; None leaves it as the ledger has it.
    listing: a ready one, else None.
    """

    ledger: Ledger
    trained: Trained
    source: SourceConfig
    decode: dict[str, Any]
    explain: Method | None
    cache_dir: str
    limits: RunLimits
    ruling: Ruling | None = None
    from_now_on: bool = False
    retry_errors: bool = False
    listing: ListingFile | None = None

    @property
    def created(self) -> Created:
        return Created(image_id=self.source.image_id, key_pattern=self.source.key_pattern)

    def scoring(self, digest: str, config: dict[str, Any]) -> ScoringConfig:
        """This run's settings for the model of this digest and config."""
        decode = DecodeConfig.of(InputConfig.model_validate(config["input"]), **self.decode)
        return ScoringConfig(
            model=self.ledger.model, model_digest=digest, source=self.source, decode=decode, explain=self.explain
        )


def score_archive(run: ScoringRun, engine: Engine, on_progress: OnProgress = lambda progress: None) -> RunResult:
    """Score what the input holds and publish it; start Ray only when there is something to score.

    A slice that is held, or that has units which storage does not give, holds no other slice back.

    Raises:
        LeaseHeld, LeaseLost: another driver has the ledger.
        OtherKeys, OtherModel, TableConflict: the ledger or a table does not fit the settings.
        EmptyInput: the first listing found nothing that a source reads.
        Unreachable: storage did not answer for longer than `outage_s`.
    """
    ledger, result = run.ledger, RunResult(run.ledger.model)
    input_store = open_input(run.source)
    with Lease(ledger) as lease:
        head = prepare_ledger(ledger, run.created, run.trained, run.from_now_on)
        if head.rekeyed > _closed(ledger).rekeyed:
            log.warning("model %s: finishing a rekey that was stopped", ledger.model)
            rekey(ledger, partial(engine.map, memory_bytes=TASK_BYTES))
        if run.ruling is not None:
            result.judged += judge_anew(ledger, run.ruling, partial(engine.map, memory_bytes=TASK_BYTES))
        work = _Work(run, engine, lease, input_store, on_progress, result)
        seen = unclosed(ledger, _closed(ledger))
        for number in seen:
            work.finish(number)
        log.info("model %s: listing %s for images that are new or changed", ledger.model, run.source.input_uri)
        planned = plan_slice(ledger, _wanted(run, input_store))
        log.info("%s", _planned(ledger, planned))
        for number in unclosed(ledger, _closed(ledger)):
            if number not in seen:
                work.finish(number)
        for number in [number for number in seen if number in result.held]:
            del result.held[number]  # errors that a new slice has mended no longer count
            work.finish(number)
        if not seen and not result.published and not result.open and not result.held:
            _check_not_empty(ledger, run.source, input_store)
        if head.calibrated or (run.ruling is not None and run.ruling.calibration is not None):
            chart_nights(ledger, partial(engine.map, memory_bytes=TASK_BYTES), work.handles)
        fold_if_due(ledger)
        compact_if_due(ledger, work.handles, partial(engine.map, memory_bytes=TASK_BYTES))
    return result


def _closed(ledger: Ledger) -> Closed:
    return settled(ledger.output_uri).closed(ledger.model)


def _wanted(run: ScoringRun, input_store: Store) -> Wanted:
    def scoring_of(digest: str) -> ScoringConfig:
        if digest == run.trained.digest:
            return run.scoring(digest, run.trained.config)
        head = read_state(run.ledger)[1]
        number = next(promoted.number for promoted in head.promotions if promoted.digest == digest)
        promotion = read_entry(run.ledger, number)
        assert isinstance(promotion, Promotion)
        return run.scoring(digest, promotion.artifact)

    return Wanted(input_store, lambda: Listing(run.source, input_store, run.listing), scoring_of, run.retry_errors)


def _planned(ledger: Ledger, number: int | None) -> str:
    if number is None:
        return f"model {ledger.model}: nothing is new"
    entry = read_slice(ledger, number)
    streams = f" and {entry.streams:,} archives, whose images are counted when they are read," if entry.streams else ""
    return f"{ledger.slice_name(number)}: planned, {entry.images:,} images{streams} in {entry.units:,} work units"


def _check_not_empty(ledger: Ledger, source: SourceConfig, input_store: Store) -> None:
    """Raises EmptyInput for a ledger without any slice."""
    if has_slices(ledger):
        return
    links = input_store.links_left_out()
    fix = f"{links:,} links there are not followed: add --follow-links" if links else "`flowscore doctor --input` lists it"
    raise EmptyInput(f"input must hold images, tar shards or Parquet files; found none under {source.input_uri}. {fix}")


@dataclass(frozen=True)
class _Work:
    """What the slices of one command share."""

    run: ScoringRun
    engine: Engine
    lease: Lease
    input_store: Store
    on_progress: OnProgress
    result: RunResult
    handles: Handles = field(default_factory=dict)

    def finish(self, number: int) -> None:
        """Score what is open of a slice, then publish it; the result says what became of it.

        `accept_errors` is for what this command scores: a slice that was held before stays so.
        """
        ledger, limits = self.run.ledger, self.run.limits
        entry = read_slice(ledger, number)
        scored_before = read_tally(ledger, number) is not None
        if not scored_before:
            with Attempt(ledger, number) as attempt:
                still_open = self._score(number, entry, attempt)
            if still_open:
                self.result.open[number] = still_open
                return
        self.lease.check()
        log.info("%s: %spublishing", ledger.slice_name(number), "scored by an earlier command, " if scored_before else "")
        hold = HoldLimits(limits.max_error_share, limits.min_errors, limits.accept_errors and not scored_before)
        try:
            self.result.published[number] = publish_slice(
                ledger, number, hold, partial(self.engine.map, memory_bytes=TASK_BYTES), self.handles
            )
        except SliceHeld as held:
            self.result.held[number] = str(held)

    def _score(self, number: int, entry: Slice, attempt: Attempt) -> dict[int, str]:
        """The units that stay open, each with its reason. The models of a slice score one after another."""
        limits = self.run.limits
        patience = Patience(limits.window_units, limits.outage_s)
        name = self.run.ledger.slice_name(number)
        progress = RunProgress(name, attempt.goes_on, planned=entry.images, streams=entry.streams, size=entry.size)
        still_open: dict[int, str] = {}
        said = not attempt.goes_on

        def on_progress(now: RunProgress) -> None:
            nonlocal said
            if not said:
                said = True
                log.info("%s: going on, %s", name, _before(now))
            if (other_device := attempt.note(now.scored_on)) is not None:
                log.warning(other_device)
            self.on_progress(now)

        for index, scoring in enumerate(entry.scorings):
            config = StageConfig(
                self.run.ledger,
                number,
                scoring,
                self.run.ledger.artifact_uri(scoring.model_digest),
                self.run.cache_dir,
                decode_timeout_s=limits.decode_timeout_s,
            )
            still_open |= score_units(
                config, entry.units, index, self.engine, self.lease, self.input_store, patience, progress, on_progress
            )
        progress.ended, progress.finished = True, not still_open
        on_progress(progress)
        return still_open


def _before(progress: RunProgress) -> str:
    """What earlier commands have done of a slice, in words."""
    if progress.streams:  # how many images earlier commands have read of an archive is known at the end only
        return f"{min(progress.bytes_read / max(progress.size, 1), 1.0):.0%} of its bytes are read"
    return f"{progress.done:,} of {progress.planned:,} images are done"
