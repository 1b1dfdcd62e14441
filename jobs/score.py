"""Score an archive of images with a trained model and publish the tables."""

import time

from jobs.command.entry import run
from jobs.command.errors import ErrorShareError, PartialRunError, UsageError
from jobs.command.progress import Progress
from jobs.settings.scoring import ScoreSettings
from models import artifact
from models.artifact import Artifact
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig
from pipeline.input.listing import open_input
from pipeline.run import Engine, RunProgress, RunResult, ScoringRun, score_archive
from pipeline.stages.cluster import check_device
from pipeline.stages.cluster_address import check_cluster
from pipeline.stages.engine import RayEngine
from pipeline.state.lease import LeaseHeld, LeaseLost
from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.copies import local_copy
from pipeline.storage.store import check_conditional_put, open_store
from pipeline.tables.address import check_output
from pipeline.tables.error_share import TooManyErrors
from schemas.version import VERSION


def main(settings: ScoreSettings) -> None:
    """Score an archive of images with a trained model and publish the tables."""
    report(score(settings))


def score(settings: ScoreSettings, engine: Engine | None = None) -> RunResult:
    """Check everything, then run, on Ray unless another engine is given.

    Raises:
        ErrorShareError: exit 3.  PartialRunError: exit 5.  ValueErrors of ours: exit 2, before Ray starts.
    """
    prepared = prepare(settings)
    engine = engine or RayEngine(settings.address, settings.resources, settings.device)
    with ScoringProgress() as progress:
        try:
            return score_archive(prepared, engine, progress)
        except (LeaseHeld, LeaseLost) as error:
            raise PartialRunError(str(error)) from error
        except TooManyErrors as error:
            raise ErrorShareError(str(error)) from error


def prepare(settings: ScoreSettings) -> ScoringRun:
    """Open the model, the input and the output; this finds every fault that a user can mend."""
    check_device(settings.resources, settings.device, settings.address)
    check_cluster(settings.address)
    check_output(settings.output)
    opened = artifact.read(local_copy(settings.model, settings.cache_dir.expanduser()))
    artifact.check(opened)
    if settings.explain is not None:
        _check_explanation(opened, settings.explain)
    own = {name: getattr(settings, name) for name in ("max_image_pixels", "max_decode_bytes", "white_level", "timezone")}
    scoring = ScoringConfig(
        model=opened.config.name,
        model_digest=opened.model_digest,
        source=settings.source.at(open_store(settings.input).uri),
        decode=DecodeConfig.of(opened.config.input, **{name: value for name, value in own.items() if value is not None}),
        explain=settings.explain,
    )
    output_uri = open_store(settings.output).uri
    if f"{output_uri}/".startswith(f"{scoring.source.input_uri}/"):
        fix = "Choose a place beside the input: tables inside it would be listed as shards."
        raise UsageError("--output", f"outside the input {scoring.source.input_uri}", output_uri, fix)
    state = RunState(output_uri, settings.run_id or scoring.run_id())
    next(iter(open_input(scoring.source).list()), None)
    check_conditional_put(state.store, f"{state.prefix}/probe-{time.time_ns()}")
    return ScoringRun(
        state,
        scoring,
        settings.model,
        opened.config.model_dump(mode="json"),
        str(settings.cache_dir.expanduser()),
        settings.device,
        settings.limits,
        VERSION,
    )


def _check_explanation(opened: Artifact, method: Method) -> None:
    """Raises UsageError for a model without regions, and ExplanationError if the method is not defined for it."""
    if opened.config.map_threshold is None:
        fix = "Leave it out, or train with a selection share, which sets the threshold."
        raise UsageError("--explain", "left out for a model without a map threshold, which finds no regions", method, fix)
    import torch  # it and captum take seconds to load, which most runs save

    from models.explain.explainer import Explainer, ExplanationError

    size = opened.config.input
    blank = torch.zeros(size.height, size.width, 3, dtype=torch.uint8)
    for fault in Explainer(artifact.load(artifact.in_float32(opened))).check(blank, (method,)).values():
        raise ExplanationError(fault)


class ScoringProgress(Progress):
    """Progress of a run. The image count of an open tar stream is unknown, so the share is that of the bytes read."""

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
    """Print the outcome of the run.

    Raises:
        PartialRunError: units are still open.
    """
    for number, counts in sorted(result.published.items()):
        ignored = f", {counts.ignored:,} ignored (no images, or not asked for)" if counts.ignored else ""
        print(f"published slice {number}: {counts.scored:,} scored, {counts.quarantined:,} in errors{ignored}")
    if result.open:
        number, reason = next(iter(result.open.items()))
        raise PartialRunError(
            f"partial: {len(result.open):,} work unit(s) are still open, the first (number {number}) because: {reason}. "
            "Repeat the same command to go on"
        )
    if not result.published:
        print(f"run {result.run_id}: nothing new; every image is already scored and published")


if __name__ == "__main__":
    run(main)
