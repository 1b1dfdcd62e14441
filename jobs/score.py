"""Score an archive of images with a trained model and publish the tables."""

import logging
import os
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from jobs.command.date_check import check_date
from jobs.command.entry import run
from jobs.command.errors import ErrorShareError, PartialRunError, UsageError
from jobs.command.log import begin, begin_in_job
from jobs.command.model_folder import model_folder
from jobs.command.pattern_check import say_fit
from jobs.command.places import check_input
from jobs.command.progress import Progress
from jobs.settings.scoring import ScoreSettings, ScoringOptions
from models import artifact
from models.artifact import Artifact
from models.explain.methods import Method
from pipeline.input.keys import key_pattern
from pipeline.input.listing import open_input
from pipeline.input.listing_file import ListingFile
from pipeline.input.pattern_fit import pattern_fit
from pipeline.run import Engine, RunProgress, RunResult, ScoringRun, score_archive
from pipeline.stages.cluster import check_device
from pipeline.stages.cluster_address import check_cluster
from pipeline.stages.engine import RayEngine
from pipeline.state.lease import LeaseHeld, LeaseLost
from pipeline.state.ledger import Ledger, ledgers
from pipeline.state.plan import has_slices
from pipeline.state.promotion import Trained, check_ledger
from pipeline.storage.store import check_conditional_put, open_store
from pipeline.tables.address import check_output
from pipeline.tables.delta import score_schema
from schemas.version import VERSION

log = logging.getLogger("jobs.score")  # as a program, this file is called __main__


def main(settings: ScoreSettings) -> None:
    """Score an archive of images with a trained model and publish the tables."""
    begin_in_job()
    report(score(settings))


def score(settings: ScoreSettings, engine: Engine | None = None) -> RunResult:
    """Check everything, then run, on Ray unless another engine is given.

    Raises:
        PartialRunError: exit 5.  ValueErrors of ours: exit 2, before Ray starts; of a cluster, before anything is planned.
    """
    read: list[str] = []
    prepared = prepare(settings, read.append)
    begin()
    log.info("%s", _first_line(prepared))
    for line in read:
        log.info("%s", line)
    engine = engine or joined(settings, prepared)
    with ScoringProgress() as progress:
        try:
            return score_archive(prepared, engine, progress)
        except (LeaseHeld, LeaseLost) as error:
            raise PartialRunError(str(error)) from error


def joined(settings: ScoringOptions, prepared: ScoringRun) -> RayEngine:
    """The engine of a run, whose cluster is joined before a lease is taken or anything is planned.

    A node that lacks something ends the command even where slices are scored already and only wait for publication: that runs
    on the nodes as well.

    Raises:
        NoCluster: it cannot be joined.  NodeLacks: a node cannot reach what the driver reaches.
    """
    engine = RayEngine(settings.address, settings.resources, settings.device)
    engine.join(prepared.source, prepared.ledger, prepared.listing)
    return engine


def prepare(settings: ScoreSettings, say: Callable[[str], None] = print) -> ScoringRun:
    """Open the model, the input and the output; this finds every fault that a user can mend.

    say: gets the lines about the date and about what the key pattern reads.
    """
    check_device(settings.resources, settings.device, settings.address)
    check_cluster(settings.address)
    check_output(settings.output)
    check_input("--input", settings.input)
    opened = artifact.read(model_folder(settings.model, settings.cache_dir))
    artifact.check(opened)
    if settings.explain is not None:
        _check_explanation(opened, settings.explain)
    if opened.calibration_digest is not None and settings.white_level not in (None, opened.config.input.white_level):
        fix = "Leave it out, or train and calibrate with it: scores of another white level cannot be judged."
        raise UsageError("--white-level", f"{opened.config.input.white_level}, as calibrated", settings.white_level, fix)
    if settings.decoder == "cuda" and opened.config.input.resize == "tile":
        raise UsageError("decoder", "cpu for a model that scores by tiles", settings.decoder, "Leave it out.")
    if settings.decoder == "cuda" and opened.config.input.roi is not None:
        raise UsageError("decoder", "cpu for a model with a region of interest", settings.decoder, "Leave it out.")
    names = ("max_image_pixels", "max_decode_bytes", "white_level", "timezone", "decoder")
    own = {name: getattr(settings, name) for name in names}
    source = settings.source.at(open_store(settings.input).uri)
    output_uri = open_store(settings.output).uri
    if f"{output_uri}/".startswith(f"{source.input_uri}/"):
        fix = "Choose a place beside the input: tables inside it would be listed as shards."
        raise UsageError("--output", f"outside the input {source.input_uri}", output_uri, fix)
    run = ScoringRun(
        ledger=Ledger(output_uri, opened.config.name),
        trained=Trained(opened.model_digest, opened.config.model_dump(mode="json"), opened.directory),
        source=source,
        decode={name: value for name, value in own.items() if value is not None},
        explain=settings.explain,
        cache_dir=str(settings.cache_dir.expanduser()),
        limits=settings.limits,
        ruling=settings.verdicts.ruling(opened.model_digest, opened.calibration_digest, opened.directory),
        from_now_on=settings.from_now_on,
        retry_errors=settings.retry_errors,
        listing=None if settings.listing is None else ListingFile(settings.listing.expanduser()),
    )
    run.scoring(opened.model_digest, run.trained.config)
    score_schema(key_pattern(source.key_pattern).fields if source.key_pattern else ())
    if run.listing is not None:
        run.listing.check(open_input(source))
    elif source.key_pattern is None:
        next(iter(open_input(source).list()), None)
    fit = pattern_fit(source, run.listing) if source.key_pattern is not None else None
    ledgers(output_uri)
    check_conditional_put(run.ledger.store, f"{run.ledger.prefix}/probe-{time.time_ns()}")
    check_ledger(run.ledger, run.created, opened.model_digest, settings.from_now_on)

    def begins() -> bool:
        """What earlier nights took is not refused: the date that they had, a pattern for what now stands first in the input."""
        return not has_slices(run.ledger)

    check_date(source.date, must_be_day=begins, say=say)
    if fit is not None:
        say_fit(fit, "key_pattern", must_fit=begins, say=say)
    return run


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


def _first_line(run: ScoringRun) -> str:
    return (
        f"model {run.ledger.model}: scoring {run.source.input_uri} into {run.ledger.output_uri} by the model of digest "
        f"{run.trained.digest[:12]}; flowscore {VERSION}, process {os.getpid()} on {socket.gethostname()}"
    )


class ScoringProgress:
    """Progress of a run, anew for each slice; a context manager.

    The image count of an open tar stream is unknown, so the share is that of the bytes read. What an earlier command scored
    of a slice counts as done where that is known without reading commits; its errors are known at the end only.
    """

    def __init__(self) -> None:
        self._slice = ""
        self._shown: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown is not None:
            self._shown.__exit__(kind, error, trace)
            self._shown = None

    def __call__(self, progress: RunProgress) -> None:
        if self._shown is None or self._slice != progress.slice:
            self.__exit__(None, None, None)
            self._slice, more = progress.slice, "more " if progress.goes_on else ""
            unit = f"{more if progress.streams else ''}images"
            self._shown = Progress(f"{progress.slice}: scoring", None, unit, failed=f"{more}in errors").__enter__()
        if progress.finished:
            self._shown.update(progress.done, progress.errors, total=progress.done)
        elif progress.streams and progress.size:
            self._shown.update(progress.done, progress.errors, fraction=min(progress.bytes_read / progress.size, 0.999))
        else:
            self._shown.update(progress.done, progress.errors, total=progress.planned)
        if progress.ended:  # what follows is no scoring, and says so itself
            self.__exit__(None, None, None)


def report(result: RunResult) -> None:
    """Print the outcome of the run.

    Raises:
        PartialRunError: units are still open.  ErrorShareError: a slice is held.
    """
    for line in result.judged:
        print(line)
    for number, counts in sorted(result.published.items()):
        ignored = f", {counts.ignored:,} ignored (no images, or not asked for)" if counts.ignored else ""
        done = f"{counts.scored:,} scored, {counts.quarantined:,} in errors{ignored}"
        print(f"model {result.model}: published slice {number}: {done}")
    for number, why in sorted(result.held.items()):
        print(f"model {result.model}: slice {number} is held. {why}")
    if result.open:
        units = {(number, unit): reason for number, still in sorted(result.open.items()) for unit, reason in still.items()}
        (number, unit), reason = next(iter(units.items()))
        raise PartialRunError(
            f"partial: {len(units):,} work unit(s) are still open, the first (number {unit} of slice {number}) because: "
            f"{reason}. Repeat the same command to go on"
        )
    if result.held:
        raise ErrorShareError(
            f"held: {len(result.held)} slice(s) of model {result.model} have too many errors and are not published; everything "
            "else is. Look at the errors, then mend the images and repeat the command, or accept the errors, as said above"
        )
    if not result.published:
        print(f"model {result.model}: nothing new; every image is already scored and published")


if __name__ == "__main__":
    run(main)
