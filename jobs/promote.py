"""Let a retrained model score the images of days to come; earlier days keep the model that scored them."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Flag, Named
from jobs.command.model_folder import model_folder
from models import artifact
from pipeline.state.entries import Head
from pipeline.state.ledger import Ledger, ledgers
from pipeline.state.plan import read_state
from pipeline.state.promotion import Trained, next_day, promote
from pipeline.storage.store import open_store
from schemas.days import is_day


class PromoteSettings(BaseModel):
    """Settings of `flowscore promote`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="directory of the retrained model, local or s3://; its name stays the same")
    output: Flag[str] = Field(description="where `flowscore score` puts its results: s3://... or a directory")
    from_day: Annotated[str | None, Named("--from")] = Field(
        None, description="first day that it scores, 2026-01-31; default: the day after the last one with images"
    )
    cache_dir: Flag[Path] = Field(Path("~/.cache/flowscore"), description="where a remote model is copied to")


def main(settings: PromoteSettings) -> None:
    """Let a retrained model score the images of days to come. Images of earlier days that come late keep their model."""
    if settings.from_day is not None and not is_day(settings.from_day):
        raise UsageError("--from", "a day such as 2026-01-31", settings.from_day, "Correct it.")
    opened = artifact.read(model_folder(settings.model, settings.cache_dir))
    artifact.check(opened)
    output_uri = open_store(settings.output).uri
    ledger = Ledger(output_uri, opened.config.name)
    if ledger not in ledgers(output_uri):
        fix = "`flowscore score` makes the first promotion itself."
        raise UsageError("--output", f"a place where model {ledger.model} has scored", settings.output, fix)
    trained = Trained(opened.model_digest, opened.config.model_dump(mode="json"), opened.directory)
    while True:
        head = read_state(ledger)[1]
        if head.digest == trained.digest:
            print(f"model {ledger.model}: digest {trained.digest[:12]} is promoted already")
            return
        from_day = settings.from_day or first_day(head)
        if promote(ledger, head, trained, from_day):
            since = f"from {from_day} on" if from_day else "from now on"
            print(f"model {ledger.model}: digest {trained.digest[:12]} scores {since}")
            return


def first_day(head: Head) -> str | None:
    """The day after the last one with images; None without days."""
    return next_day(head.last_day) if head.last_day else None


if __name__ == "__main__":
    run(main)
