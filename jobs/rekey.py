"""Read the key columns of all scored images by another key pattern, without scoring anything again."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobs.command.entry import run
from jobs.command.flags import Flag
from jobs.command.pattern_check import say_fit
from jobs.command.scored_ledgers import scored_ledgers
from pipeline.input.config import SourceOptions
from pipeline.input.keys import key_pattern
from pipeline.input.pattern_fit import LOOKED_AT
from pipeline.state.ledger import Ledger
from pipeline.tables.query import NoTables, open_tables
from pipeline.tables.rekey import begin, inputs, rekey, tried


class RekeySettings(BaseModel):
    """Settings of `flowscore rekey`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="name of the model whose rows get other key columns")
    output: Flag[str] = Field(description="where `flowscore score` has put its results: s3://... or a directory")
    key_pattern: Flag[str] = Field(description=str(SourceOptions.model_fields["key_pattern"].description))

    @field_validator("key_pattern")
    @classmethod
    def _readable(cls, pattern: str) -> str:
        key_pattern(pattern)
        return pattern


def main(settings: RekeySettings) -> None:
    """Read key columns and lot of all of a model's rows in `scores` by another pattern, from their uris.

    From then on `flowscore score` takes this pattern and no other. Columns that only the earlier pattern has become null;
    `date` stays as it is. If the command is stopped, repeat it; the next `flowscore score` finishes it too.
    """
    (ledger,) = scored_ledgers(settings.output, settings.model)
    fit = tried(ledger, settings.key_pattern, _some_rows(ledger))
    if fit is not None:
        say_fit(fit, "key_pattern", must_fit=lambda: False)  # images to come may lie otherwise, and their pattern is wanted
    begun = begin(ledger, settings.key_pattern)
    done = rekey(ledger)
    if done.files:
        print(f"model {ledger.model}: key columns of {done.rows:,} images are read by {settings.key_pattern}")
    elif begun:
        print(f"model {ledger.model}: the key pattern is {settings.key_pattern} now; no row had to change")
    else:
        print(f"model {ledger.model}: all rows follow {settings.key_pattern} already")


def _some_rows(ledger: Ledger) -> list[tuple[str, str | None, str]]:
    """uri, member and date of some scored images of each input; none before the first publication."""
    try:
        connection = open_tables(ledger.output_uri).connection
    except NoTables:
        return []
    found = inputs(ledger)
    each = max(1, LOOKED_AT // max(1, len(found)))
    query = f"select uri, member, date from scores where model = $1 and starts_with(uri, $2) limit {each}"
    return [row for uri in found for row in connection.execute(query, [ledger.model, f"{uri}/"]).fetchall()]


if __name__ == "__main__":
    run(main)
