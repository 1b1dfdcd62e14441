"""Publish finished slices that are not in the tables yet, such as those held back for too many errors."""

from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import ErrorShareError, PartialRunError, UsageError
from jobs.command.flags import Flag
from pipeline.input.keys import key_pattern
from pipeline.state.committed import IncompleteSlice
from pipeline.state.lease import Lease, LeaseHeld
from pipeline.state.plan import slice_counts
from pipeline.state.run_state import RunState, drop_commits, read_config, run_ids
from pipeline.storage.store import open_store
from pipeline.tables import changes, delta
from pipeline.tables.error_share import TooManyErrors
from pipeline.tables.finalize import finalize_slice
from pipeline.tables.run_row import Counts, RunInfo
from schemas.version import VERSION


class FinalizeSettings(BaseModel):
    """Settings of `flowscore finalize`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Flag[str] = Field(description="where `flowscore score` has put its results: s3://... or a directory")
    run_id: Flag[str | None] = Field(None, description="scoring run; default: every run under the output")
    max_error_share: Flag[float] = Field(0.05, ge=0, le=1, description="share of errors that stops publishing (exit 3)")
    accept_errors: Flag[bool] = Field(False, description="publish at any share of errors")
    clean: Flag[bool] = Field(False, description="also delete what is no longer needed, as described above")


def main(settings: FinalizeSettings) -> None:
    """Publish slices whose work units are all scored. Published slices stay as they are.

    --clean deletes, for all runs under the output, the commits of published slices, whose rows are in the tables. It deletes
    table files that no version of the last 90 days needs, including those that killed runs have left. In a directory it also
    deletes files that were never written to their end.
    """
    output, run_id = settings.output, settings.run_id
    output_uri = open_store(output).uri
    known = run_ids(output_uri)
    if not known or run_id not in (None, *known):
        listed = f"Runs there: {', '.join(known)}." if known else "It holds no scoring run; `flowscore score` makes one."
        raise UsageError("--run-id" if known else "--output", "that of a scoring run", run_id or output, listed)
    published = 0
    for each in [run_id] if run_id else known:
        for number, counts in publish(RunState(output_uri, each), settings.max_error_share, settings.accept_errors).items():
            print(f"run {each}: published slice {number}: {counts.scored:,} scored, {counts.quarantined:,} in errors")
            published += 1
    if not published:
        print("nothing to publish: every slice is already in the tables")
    if settings.clean:
        for each in known:
            print(f"run {each}: {drop_commits(RunState(output_uri, each)):,} commits of published slices deleted")
        for name, deleted in changes.clean(output_uri).items():
            print(f"{name}: {deleted:,} files older than {delta.RETENTION_DAYS} days deleted")
        if unfinished := open_store(output).delete_unfinished():
            print(f"{unfinished:,} files that were never written to their end deleted")


def publish(state: RunState, max_error_share: float, accept_errors: bool) -> dict[int, Counts]:
    """Finalize every scored slice of a run that is not published, in order.

    Raises:
        ErrorShareError: exit 3.
        PartialRunError: a slice is not wholly scored, or another driver has the run; exit 5.
    """
    published: dict[int, Counts] = {}
    done = state.published()
    numbers = [number for number in state.slices() if number not in done]
    if not numbers:
        return published
    config = read_config(state)
    pattern = config["source"]["key_pattern"]
    try:
        with Lease(state) as lease:
            for number in numbers:
                info = RunInfo(
                    run_id=state.run_id,
                    slice=number,
                    model=config["model"],
                    model_digest=config["model_digest"],
                    config={name: value for name, value in config.items() if name != "scoring_version"},
                    code_version=VERSION,
                    ignored=slice_counts(state, number).ignored,
                    attempts=lease.epoch,
                    started_at=None,
                    max_error_share=max_error_share,
                    accept_errors=accept_errors,
                    key_columns=tuple(key_pattern(pattern).fields) if pattern else (),
                )
                published[number] = finalize_slice(state.output_uri, info)
    except TooManyErrors as error:
        raise ErrorShareError(str(error)) from error
    except (IncompleteSlice, LeaseHeld) as error:
        raise PartialRunError(str(error)) from error
    return published


if __name__ == "__main__":
    run(main)
