"""What the parser refuses is one sentence with the field, the value and what to do."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.flags import Argument, Flag


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sql: Annotated[str, Argument()] = Field("q", description="the question")
    rows: Flag[int] = Field(1, description="rows")
    share: Flag[float] = Field(0.5, description="of all")
    output: Flag[Path] = Field(Path("out"), description="the tables")
    clean: Flag[bool] = Field(False, description="delete")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--row", "3"), "option must be one of `ask`; got '--row'. Did you mean --rows?"),
        (("--zebra",), "option must be one of `ask`; got '--zebra'. `ask --help` lists the options."),
        (("-x",), "option must be one of `ask`; got '-x'. `ask --help` lists the options."),
        (("--rows",), "--rows must be given with a value; got None. `ask --help` lists the options."),
        (("--clean=yes",), "--clean must be given without a value; got 'one'. It is a switch."),
        (("--share", "half"), "--share must be a valid number, unable to parse string as a number; got 'half'."),
        (("--rows", "2.5"), "--rows must be a valid integer, unable to parse string as an integer; got '2.5'."),
        (("--output", ""), "--output must be given with a value; got ''. Give it one, or leave it out."),
        (("",), "sql must be given with a value; got ''. Give it one, or leave it out."),
        (("select", "uri"), "command line must be options with their values; got 'Got unexpected extra argument"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: tuple[str, ...], sentence: str, capsys) -> None:
    def main(settings: Settings) -> None:
        """Ask."""
        raise AssertionError(settings)

    with pytest.raises(SystemExit) as ended:
        run(main, arguments, name="ask")
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert shown.err.startswith(f"error: {sentence}") and shown.err.count("\n") == 1, shown.err


def test_an_error_of_several_lines_becomes_one(capsys) -> None:
    class TwoLinesError(ValueError):
        __module__ = "models.artifact"

    def main(settings: Settings) -> None:
        """Ask."""
        raise TwoLinesError("at LINE 1:\n  select form\n         ^")

    with pytest.raises(SystemExit):
        run(main, [])
    assert capsys.readouterr().err == "error: at LINE 1: select form ^\n"
