"""Judge what is already scored by another calibration or rate; no image is read and nothing is scored."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Flag, Flags
from jobs.command.model_folder import model_folder
from jobs.settings.verdicts import VerdictOptions
from models import artifact
from pipeline.state.ledger import Ledger, ledgers
from pipeline.state.plan import read_state
from pipeline.storage.store import open_store
from pipeline.tables.rejudge import judge_anew


class JudgeSettings(BaseModel):
    """Settings of `flowscore judge`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="directory of the model that scored, local or s3://, with its calibration")
    output: Flag[str] = Field(description="where `flowscore score` puts its results: s3://... or a directory")
    verdicts: Annotated[VerdictOptions, Flags("rate", "review_budget", "decided_by")] = Field(
        VerdictOptions(), description="by what scores become verdicts"
    )
    cache_dir: Flag[Path] = Field(Path("~/.cache/flowscore"), description="where a remote model is copied to")


def main(settings: JudgeSettings) -> None:
    """Judge all that this model has scored by its calibration as it is now, and by the rate that is given.

    `score` does the same at its start. Raw scores stay, and every decision is a row in the table decisions.
    """
    opened = artifact.read(model_folder(settings.model, settings.cache_dir))
    output_uri = open_store(settings.output).uri
    ledger = Ledger(output_uri, opened.config.name)
    if ledger not in ledgers(output_uri):
        fix = "`flowscore score` puts results there."
        raise UsageError("--output", f"a place where model {ledger.model} has scored", settings.output, fix)
    known = {promoted.digest for promoted in read_state(ledger)[1].promotions}
    if opened.model_digest not in known:
        fix = "Give the version that has, or let this one score first."
        raise UsageError("--model", f"a version of {ledger.model} that has scored there", settings.model, fix)
    said = judge_anew(ledger, settings.verdicts.ruling(opened.model_digest, opened.calibration_digest, opened.directory))
    print("\n".join(said) or f"model {ledger.model}: every score is judged by this calibration and rate already")


if __name__ == "__main__":
    run(main)
