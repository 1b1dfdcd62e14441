"""Score an archive of images with a trained model and publish the tables."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.command.config import load
from jobs.command.entry import run
from jobs.command.errors import ErrorShareError, PartialRunError, UsageError
from jobs.command.progress import Progress
from models import artifact
from models.artifact import Artifact
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig, known_zone
from pipeline.input.config import SourceConfig
from pipeline.input.listing import open_input
from pipeline.run import Engine, OnProgress, RunLimits, RunProgress, RunResult, score_archive
from pipeline.stages.cluster import Resources, check_device
from pipeline.stages.engine import RayEngine
from pipeline.state.lease import LeaseHeld, LeaseLost
from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.copies import local_copy
from pipeline.storage.store import check_conditional_put, open_store
from pipeline.tables.error_share import TooManyErrors
from schemas.version import VERSION


class ScoreSettings(BaseModel):
    """Settings of `flowscore score`: the keys of its YAML file.

    explain: how images with a region are explained, in the maps table; another method is another run. The images flagged
    here are those with a region, since verdicts need a calibration, which may come later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    output: str
    source: SourceConfig
    run_id: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    device: str = "auto"
    address: str | None = None
    cache_dir: Path = Path("~/.cache/flowscore")
    max_image_pixels: int | None = Field(None, gt=0)
    max_decode_bytes: int | None = Field(None, gt=0)
    timezone: str | None = None
    explain: Method | None = None
    resources: Resources = Resources()
    limits: RunLimits = RunLimits()

    @model_validator(mode="before")
    @classmethod
    def _input_is_the_sources(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "input" in settings:
            settings = dict(settings)
            uri, source = settings.pop("input"), settings.get("source") or {}
            settings["source"] = {**source, "input_uri": uri} if isinstance(source, dict) else source
        return settings

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        return None if name is None else known_zone(name)


@dataclass(frozen=True)
class Job:
    """A scoring run whose settings are checked: what `score_archive` is called with."""

    state: RunState
    scoring: ScoringConfig
    artifact: dict[str, Any]


def main(
    model: Annotated[str | None, typer.Option(help="directory of the trained model, local or s3://")] = None,
    input: Annotated[str | None, typer.Option(help="images: a local path or s3://bucket/prefix")] = None,
    output: Annotated[str | None, typer.Option(help="where tables and run state live: a local path or s3://")] = None,
    run_id: Annotated[str | None, typer.Option(help="name of the run; default: a hash of input, model and rules")] = None,
    key_pattern: Annotated[str | None, typer.Option(help="key columns in the path: {line}/{date}/{lot}/{name}")] = None,
    date: Annotated[str | None, typer.Option(help="production day of images whose path has none")] = None,
    image_id: Annotated[str | None, typer.Option(help="uri, key or content: what names an image")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join; default RAY_ADDRESS, else this machine")] = None,
    members: Annotated[str | None, typer.Option(help="names of the images to read: '*.jpg' or '*.jpg,*.jpeg'")] = None,
    follow_links: Annotated[bool | None, typer.Option("--follow-links", help="read what symbolic links lead to")] = None,
    explain: Annotated[str | None, typer.Option(help="method by which images with a region are explained")] = None,
    max_error_share: Annotated[float | None, typer.Option(help="above it nothing is published (exit 3)")] = None,
    accept_errors: Annotated[bool | None, typer.Option("--accept-errors", help="publish whatever the share")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with these and all other settings")] = None,
) -> None:
    settings = load(
        ScoreSettings,
        config,
        model=model,
        output=output,
        input=input,
        run_id=run_id,
        device=device,
        address=address,
        explain=explain,
        source={
            "key_pattern": key_pattern,
            "date": date,
            "image_id": image_id,
            "members": members,
            "follow_links": follow_links,
        },
        limits={"max_error_share": max_error_share, "accept_errors": accept_errors},
    )
    report(score(settings))


def score(settings: ScoreSettings, engine: Engine | None = None) -> RunResult:
    """Check everything, then run, on Ray unless another engine is given.

    Raises:
        ErrorShareError: exit 3.  PartialRunError: exit 5.  ValueErrors of ours: exit 2, before Ray starts.
    """
    job = prepare(settings)
    engine = engine or RayEngine(settings.address, settings.resources, settings.device)
    with ScoringProgress() as progress:
        try:
            return run_job(job, settings, engine, progress)
        except (LeaseHeld, LeaseLost) as error:
            raise PartialRunError(str(error)) from error
        except TooManyErrors as error:
            raise ErrorShareError(str(error)) from error


def run_job(job: Job, settings: ScoreSettings, engine: Engine, on_progress: OnProgress) -> RunResult:
    """`score_archive` with what a prepared job and its settings say; raises what that raises."""
    return score_archive(
        job.state,
        job.scoring,
        settings.model,
        str(settings.cache_dir.expanduser()),
        engine,
        settings.limits,
        VERSION,
        settings.device,
        job.artifact,
        on_progress,
    )


def prepare(settings: ScoreSettings) -> Job:
    """Open the model and the storage of both ends; every fault a user can mend is found here."""
    check_device(settings.resources, settings.device, settings.address)
    opened = artifact.read(local_copy(settings.model, settings.cache_dir.expanduser()))
    artifact.check(opened)
    if settings.explain is not None:
        _check_explanation(opened, settings.explain)
    limits = {name: getattr(settings, name) for name in ("max_image_pixels", "max_decode_bytes", "timezone")}
    scoring = ScoringConfig(
        model=opened.config.name,
        model_digest=opened.model_digest,
        source=settings.source.model_copy(update={"input_uri": open_store(settings.source.input_uri).uri}),
        decode=DecodeConfig(
            **opened.config.input.model_dump(exclude={"overlap"}),
            **{name: value for name, value in limits.items() if value is not None},
        ),
        explain=settings.explain,
    )
    output_uri = open_store(settings.output).uri
    if f"{output_uri}/".startswith(f"{scoring.source.input_uri}/"):
        fix = "Tables there would be listed as shards: choose a place beside the input."
        raise UsageError("--output", f"outside the input {scoring.source.input_uri}", output_uri, fix)
    state = RunState(output_uri, settings.run_id or scoring.run_id())
    next(iter(open_input(settings.source).list()), None)
    check_conditional_put(state.store, f"{state.prefix}/probe-{time.time_ns()}")
    return Job(state, scoring, opened.config.model_dump(mode="json"))


def _check_explanation(opened: Artifact, method: Method) -> None:
    """Raises UsageError for a model without regions, ExplanationError where the method is not defined for it."""
    if opened.config.map_threshold is None:
        fix = "Leave it out, or train with a selection share, which sets the threshold."
        raise UsageError("--explain", "left out for a model without a map threshold, which finds no regions", method, fix)
    import torch  # it and captum take seconds that most runs need not wait

    from models.explain.explainer import Explainer, ExplanationError

    size = opened.config.input
    blank = torch.zeros(size.height, size.width, 3, dtype=torch.uint8)
    for fault in Explainer(artifact.load(artifact.in_float32(opened))).check(blank, (method,)).values():
        raise ExplanationError(fault)


class ScoringProgress(Progress):
    """Progress of a run; while tar streams are open their image count is unknown, so their bytes stand for it."""

    def __init__(self) -> None:
        super().__init__("scoring", total=None)

    def __call__(self, progress: RunProgress) -> None:
        if progress.finished:
            self.update(progress.done, progress.errors, total=progress.done)
        elif progress.streams and progress.size:
            self.update(progress.done, progress.errors, fraction=min(progress.bytes_read / progress.size, 0.999))
        else:
            self.update(progress.done, progress.errors, total=progress.planned)


def report(result: RunResult) -> None:
    """Print what became of the run.

    Raises:
        PartialRunError: units stay open.
    """
    for number, counts in sorted(result.published.items()):
        ignored = f", {counts.ignored:,} ignored (no images, or not asked for)" if counts.ignored else ""
        print(f"published slice {number}: {counts.scored:,} scored, {counts.quarantined:,} in errors{ignored}")
    if result.open:
        number, reason = next(iter(result.open.items()))
        raise PartialRunError(
            f"partial: {len(result.open):,} work unit(s) stay open, the first (number {number}) because: {reason}. "
            "Repeat the same command to go on"
        )
    if not result.published:
        print(f"run {result.run_id}: nothing new; every image is scored and published already")


if __name__ == "__main__":
    run(main)
