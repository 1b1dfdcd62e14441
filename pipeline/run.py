"""A scoring run: finish the open slices, plan what is new, score it, publish it. A repeated run goes on where it stopped."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pipeline.input.keys import key_pattern
from pipeline.input.listing import open_input
from pipeline.stages.config import StageConfig
from pipeline.state import plan
from pipeline.state.commits import pending
from pipeline.state.lease import Lease
from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Denied, Unreachable
from pipeline.storage.store import Store
from pipeline.tables.delta import check_partitions
from pipeline.tables.finalize import finalize_slice
from pipeline.tables.run_row import Counts, RunInfo
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

log = logging.getLogger(__name__)

ASK_AGAIN_S = 5.0


class RunLimits(BaseModel):
    """Limits of a run; none of them changes a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_error_share: float = Field(0.05, ge=0, le=1, description="share of errors above which nothing is published (exit 3)")
    window_units: int = Field(20_000, gt=0, description="work units given to the engine at once")
    decode_timeout_s: float = Field(60.0, gt=0, description="seconds after which decoding of one image is abandoned")
    outage_s: float = Field(600.0, ge=0, description="seconds to wait for storage that does not answer at all")
    accept_errors: bool = Field(False, description="publish whatever the error share is")


class EmptyInput(ValueError):
    """There is nothing to score."""


@dataclass
class RunProgress:
    """Counts so far of one slice: images planned (streams add theirs as they are read), done and failed."""

    planned: int = 0
    streams: int = 0
    size: int = 0
    done: int = 0
    errors: int = 0
    bytes_read: int = 0
    finished: bool = False
    open: dict[int, str] = field(default_factory=dict)

    def take(self, outcome: Outcome) -> None:
        if outcome.message is not None:
            self.open[outcome.number] = outcome.message
            return
        self.done += outcome.scored + outcome.errors
        self.errors += outcome.errors
        self.bytes_read += outcome.bytes_read


@dataclass(frozen=True)
class RunResult:
    """The outcome of the command: the slices it published, and the units that stay open, each with its reason."""

    run_id: str
    published: dict[int, Counts]
    open: dict[int, str]


Job = TypeVar("Job")
Result = TypeVar("Result")


class Engine(Protocol):
    """Moves work items through the stages and maps finalize's jobs; a run uses RayEngine of pipeline/stages."""

    def start(self) -> object: ...
    def stream(self, items: list[WorkItem], config: StageConfig) -> Iterator[Outcome]: ...
    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterable[Result]: ...


OnProgress = Callable[[RunProgress], None]


@dataclass(frozen=True)
class ScoringRun:
    """A scoring run with checked settings. artifact: the model's config, which the runs table keeps."""

    state: RunState
    scoring: ScoringConfig
    artifact_uri: str
    artifact: dict[str, Any]
    cache_dir: str
    device: str
    limits: RunLimits
    code_version: str


def score_archive(run: ScoringRun, engine: Engine, on_progress: OnProgress = lambda progress: None) -> RunResult:
    """Score what the input holds and publish it; start Ray only when there is something to score.

    Raises:
        LeaseHeld, LeaseLost: another driver has the run.
        RunConflict, PartitionConflict: the run id or a table partition belongs to something else.
        TooManyErrors: more than `max_error_share` of a slice failed; its commits stay, nothing is published.
        EmptyInput: the first listing found nothing that a source reads.
        Unreachable: storage did not answer for longer than `outage_s`.
    """
    state, scoring, limits = run.state, run.scoring, run.limits
    state.claim(scoring)
    input_store = open_input(scoring.source)
    published: dict[int, Counts] = {}
    still_open: dict[int, str] = {}
    with Lease(state) as lease:
        stage_config = StageConfig(
            state, 0, scoring, run.artifact_uri, run.cache_dir, run.device, decode_timeout_s=limits.decode_timeout_s
        )
        for number in slices_to_do(state, scoring, input_store):
            check_partitions(state.output_uri, scoring.model, scoring.model_digest, plan.dates(state, number))
            started, began = datetime.now(UTC), time.monotonic()
            progress = _score_slice(replace(stage_config, slice=number), engine, limits, lease, input_store, on_progress)
            if progress.open:
                still_open = progress.open
                break
            lease.check()
            info = RunInfo(
                run_id=state.run_id,
                slice=number,
                model=scoring.model,
                model_digest=scoring.model_digest,
                config=scoring.model_dump(mode="json"),
                code_version=run.code_version,
                ignored=plan.slice_counts(state, number).ignored,
                attempts=lease.epoch,
                started_at=started,
                spent_s=time.monotonic() - began if lease.epoch == 1 else None,
                max_error_share=limits.max_error_share,
                accept_errors=limits.accept_errors,
                key_columns=key_columns(scoring),
                artifact=run.artifact,
            )
            published[number] = finalize_slice(state.output_uri, info, engine.map)
    return RunResult(state.run_id, published, still_open)


def key_columns(scoring: ScoringConfig) -> tuple[str, ...]:
    """The fields of the key pattern: columns of the scores table."""
    pattern = scoring.source.key_pattern
    return tuple(key_pattern(pattern).fields) if pattern else ()


def slices_to_do(state: RunState, scoring: ScoringConfig, input_store: Store) -> Iterator[int]:
    """The sealed slices that are not published, then the slice of what is new since."""
    done = state.published()
    sealed = state.slices()
    yield from (number for number in sealed if number not in done)
    fresh = plan.plan_slice(state, scoring, input_store)
    if fresh is not None:
        yield fresh
    elif not sealed:
        links = input_store.links_left_out()
        fix = f"{links:,} links there are not followed: add --follow-links" if links else "`flowscore doctor --input` lists it"
        raise EmptyInput(
            f"input must hold images, tar shards or Parquet files; found none under {scoring.source.input_uri}. {fix}"
        )


def _score_slice(
    config: StageConfig, engine: Engine, limits: RunLimits, lease: Lease, input_store: Store, on_progress: OnProgress
) -> RunProgress:
    """Score what is open in a slice; try once more at the end what storage did not give."""
    counts = plan.slice_counts(config.state, config.slice)
    progress = RunProgress(planned=counts.images, streams=counts.streams, size=counts.size)
    progress.done = counts.images
    windows = [(first, min(first + limits.window_units, counts.units)) for first in range(0, counts.units, limits.window_units)]

    def both_answer() -> None:
        lease.check()
        next(iter(input_store.list()), None)

    def wait_out() -> None:
        wait_for_storage(both_answer, limits.outage_s)

    for attempt in range(2):
        for first, end in windows:
            items = _items(config, first, end, progress if attempt == 0 else None)
            _score_window(items, config, engine, lease, wait_out, progress, on_progress)
        left = [item.number for first, end in windows for item in _items(config, first, end)]
        progress.open = {number: progress.open.get(number, "no commit was written") for number in left}
        if not left:
            progress.finished = True
            on_progress(progress)
            break
    return progress


def _items(config: StageConfig, first: int, end: int, progress: RunProgress | None = None) -> list[WorkItem]:
    """What is open of the units first <= number < end; subtracts their images from `progress.done`."""
    units = list(plan.outlines(config.state, config.slice, first, end))
    items = list(pending(config.state, config.slice, units))
    if progress is not None:
        images = {unit.number: unit.images or 0 for unit in units}
        progress.done -= sum(images[item.number] for item in items)
    return items


def _score_window(
    items: list[WorkItem],
    config: StageConfig,
    engine: Engine,
    lease: Lease,
    wait_out: Callable[[], None],
    progress: RunProgress,
    on_progress: OnProgress,
) -> None:
    if not items:
        return
    engine.start()
    on_progress(progress)
    for outcome in engine.stream(items, config):
        progress.take(outcome)
        if outcome.message is not None:
            wait_out()
        on_progress(progress)
    lease.check()


def wait_for_storage(ask: Callable[[], object], outage_s: float) -> None:
    """Returns once storage answers, even with a refusal. A unit was left open, for its own reason or one that all share.

    Raises Unreachable when `outage_s` seconds have passed: waiting for each unit in turn would take days.
    """
    until = time.monotonic() + outage_s
    said = False
    while True:
        try:
            with contextlib.suppress(Denied):
                ask()
            return
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            if not said:
                log.warning("storage does not answer; waiting %.0f s for it. %s", outage_s, error)
                said = True
        time.sleep(ASK_AGAIN_S)
