"""The flags of every verb, and what they say of themselves."""

import importlib
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field

from jobs.cli import verbs
from jobs.command.entry import application, run
from jobs.command.flags import Argument, Flag, Flags, Named, flags_of, nested, only_in_the_file

FLAGS = {  # written by hand: scripts rely on these
    "bench": "case list measure plan nodes size store input output model images in-memory seconds precision image-size device "
    "config csv save key-pattern date image-id input-name members follow-links address explain max-error-share "
    "min-errors accept-errors",
    "calibrate": "model input key-pattern piece-key view-key group-key by rates challenge size-key repeats "
    "repeat-key exclude members follow-links device config",
    "demo": "directory images seed",
    "doctor": "input output model address cache-dir",
    "evaluate": "model input json groups stress device config",
    "explain": "model input image-id output pictures method layer limit good device config",
    "finalize": "output model slice max-error-share min-errors accept-errors compact clean",
    "judge": "model output cache-dir rate review-budget decided-by config",
    "promote": "model output from cache-dir",
    "query": "output csv json parquet rows unpublished allow-files",
    "rekey": "model output key-pattern",
    "report": "output html png run-id model worst",
    "score": "model input output rate review-budget decided-by from-now-on retry-errors listing white-level key-pattern date "
    "image-id input-name members follow-links device address explain max-error-share min-errors accept-errors config",
    "train": "input model-out overwrite detector name backbone weights image-size aspect roi shading-correction white-level "
    "epochs seed device key-pattern members follow-links group-key calibration-share selection-share light exclude "
    "workspace config",
}
SWITCHES = {
    "list",
    "shading-correction",
    "save",
    "accept-errors",
    "clean",
    "compact",
    "from-now-on",
    "retry-errors",
    "csv",
    "json",
    "allow-files",
    "unpublished",
    "follow-links",
    "overwrite",
    "stress",
}  # take no value, where they are bool


class Times(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    date: str | None = Field(None, description="day of images without one")
    zone: str = Field("UTC", description="time zone")


class Common(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    device: Flag[Literal["auto", "cpu"]] = Field("auto", description="where it runs")
    times: Annotated[Times, Flags("date")] = Field(Times(), description="of images")


class Settings(Common):
    sql: Annotated[str, Argument()] = Field(description="the question")
    output: Flag[Path] = Field(description="the tables")
    json_lines: Annotated[bool, Named("--json")] = Field(False, description="as JSON")
    share: Flag[float] = Field(0.5, ge=0, lt=1, description="of all")
    rows: Flag[int | None] = Field(None, gt=0, description="rows")
    case: Flag[list[str]] = Field([], description="a case")
    size: Flag[tuple[int, int]] = Field((2, 3), description="height and width")
    method: Flag[Literal["gradient", "guided_backprop", "cam"] | None] = Field(None, description="how")
    hidden: int = Field(1, description="of the file only")


def called(arguments, tmp_path, text=""):
    """What `main` is given by a command line over a file."""
    found = []

    def main(settings: Settings) -> None:
        """Ask."""
        found.append(settings)

    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        run(main, ["--config", str(file), *arguments])
    return found[0] if found else ended.value.code


def parameters(verb):
    return typer.main.get_command(application(importlib.import_module(f"jobs.{verb}").main)).params


def test_every_verb_is_in_the_list():
    assert set(FLAGS) == set(verbs())


@pytest.mark.parametrize("verb", FLAGS)
def test_no_flag_is_lost(verb):
    names = [name for parameter in parameters(verb) if parameter.param_type_name == "option" for name in parameter.opts]
    assert sorted(names) == sorted(f"--{name}" for name in FLAGS[verb].split())


@pytest.mark.parametrize("verb", FLAGS)
def test_every_flag_has_a_help_and_only_switches_take_no_value(verb):
    for parameter in parameters(verb):
        assert parameter.help, parameter.name
        assert not getattr(parameter, "is_flag", False) or parameter.opts[0].removeprefix("--") in SWITCHES


@pytest.mark.parametrize("verb", FLAGS)
def test_every_setting_of_a_verb_has_a_description(verb):
    (parameter,) = importlib.import_module(f"jobs.{verb}").main.__annotations__.keys() - {"return"}
    model = importlib.import_module(f"jobs.{verb}").main.__annotations__[parameter]
    assert not [name for name, field in model.model_fields.items() if not field.description]


def test_the_place_of_query_is_the_question():
    assert [p.name for p in parameters("query") if p.param_type_name == "argument"] == ["sql"]


def test_flags_are_converted_and_reach_into_nested_models(tmp_path):
    given = ["select 1", "--output", "here", "--json", "--share", "0.25", "--rows", "7", "--case", "a", "--case", "b"]
    settings = called([*given, "--date", "2026-01-01", "--method", "cam"], tmp_path, "times: {zone: Asia/Tokyo}\nhidden: 4\n")
    assert settings == Settings(
        sql="select 1",
        output=Path("here"),
        json_lines=True,
        share=0.25,
        rows=7,
        case=["a", "b"],
        times=Times(date="2026-01-01", zone="Asia/Tokyo"),
        method="cam",
        hidden=4,
    )


@pytest.mark.parametrize(
    ("arguments", "text", "share", "case"),
    [
        ([], "", 0.5, []),
        ([], "share: 0.1\ncase: [of the file]\n", 0.1, ["of the file"]),
        (["--share", "0", "--case", "given"], "share: 0.1\ncase: [of the file]\n", 0.0, ["given"]),
    ],
    ids=["default", "file over default", "flag over file"],
)
def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path, arguments, text, share, case):
    settings = called(["q", "--output", "o", *arguments], tmp_path, text)
    assert (settings.share, settings.case) == (share, case)


@pytest.mark.parametrize(
    ("arguments", "text", "sentence"),
    [
        (["q"], "", "output must be given; got nothing. Add --output, or `output:` to the file of --config."),
        (["--output", "o"], "", "sql must be given; got nothing. Add it to the command line, or `sql:` to the file"),
        (["q", "--output", "o", "--share", "1"], "", "share must be less than 1; got 1.0. Change it on the command line"),
        (["q", "--output", "o", "--device", "gpu"], "", "device must be 'auto' or 'cpu'; got 'gpu'."),
        (
            ["q", "--output", "o"],
            "shar: 1\n",
            "key of the config must be one of device, times, sql, output, json_lines, share,",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(tmp_path, capsys, arguments, text, sentence):
    assert called(arguments, tmp_path, text) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {sentence}") and shown.count("\n") == 1


def test_the_help_says_default_range_and_choices():
    shown = {flag.name: (flag.metavar, flag.help) for flag in flags_of(Settings)}
    assert list(shown)[:3] == [None, "--output", "--json"] and list(shown)[-2:] == ["--device", "--date"]
    assert shown["--output"] == (None, "the tables  [required]")
    assert shown["--json"] == (None, "as JSON")
    assert shown["--share"] == (None, "of all  [default: 0.5; 0<=x<1]")
    assert shown["--rows"] == (None, "rows  [x>0]")
    assert shown["--size"] == (None, "height and width  [default: 2x3]")
    assert shown["--device"] == ("auto|cpu", "where it runs  [default: auto]")
    assert shown["--method"] == (None, "how  [gradient, guided_backprop, cam]")


def test_a_verb_without_settings_of_the_file_alone_takes_no_file():
    assert only_in_the_file(Settings) == ["times", "hidden"]
    assert "--config" not in {name for parameter in parameters("query") for name in parameter.opts}


def test_a_flag_that_is_not_given_leaves_the_file_s_value():
    flags = [flag for flag in flags_of(Settings) if flag.path[-1] in ("case", "date")]
    assert nested(flags, {"case": [], "date": None}) == {"case": None, "times": {"date": None}}


def test_a_flag_needs_a_description_and_a_switch_is_off_by_default():
    class Silent(BaseModel):
        name: Flag[str] = "x"

    class On(BaseModel):
        there: Flag[bool] = Field(True, description="always")

    with pytest.raises(AssertionError, match="name is a flag and needs Field"):
        flags_of(Silent)
    with pytest.raises(AssertionError, match="there: a flag can only switch on"):
        flags_of(On)
