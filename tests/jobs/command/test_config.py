import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobs.command.config import ConfigError, load
from jobs.command.errors import UsageError
from jobs.command.flags import Flag
from jobs.settings.scoring import ScoreSettings
from pipeline.input.config import SourceConfig


class Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    unit_images: int = Field(128, ge=1)
    date: str | None = None


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    model: Flag[str] = Field(description="the model")
    source: Source | None = Source()
    rules: list[Source] = []
    name: str = Field("a", pattern="^[a-z]+$")

    @field_validator("model")
    @classmethod
    def _no_spaces(cls, model: str) -> str:
        if " " in model:
            raise ValueError(f"model must be free of spaces; got {model!r}. Rename it.")
        return model


def write(tmp_path, text):
    path = tmp_path / "score.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_the_file_and_absent_flags_do_not(tmp_path):
    path = write(tmp_path, "model: night\nsource: {unit_images: 7, date: 2024-05-01a}\n")
    settings = load(Settings, path, model=None, source={"unit_images": 9, "date": None})
    assert settings == Settings(model="night", source=Source(unit_images=9, date="2024-05-01a"))


def test_an_empty_file_leaves_the_defaults(tmp_path):
    assert load(Settings, write(tmp_path, "# nothing\n"), model="m", source={"date": None}).source == Source()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("modle: m\nmodel: m\n", "key of the config must be one of model, source, rules, name; got 'modle'. Rename"),
        ("model: m\nsource: {unit_imgs: 3}\n", "key of source must be one of unit_images, date; got 'unit_imgs'."),
        ("model: m\nrules: [{dat: x}]\n", "key of rules.0 must be one of unit_images, date; got 'dat'."),
        ("model: m\nsource: {unit_images: 0}\n", "source.unit_images must be greater than or equal to 1; got 0."),
        ("model: m\nrules: [3]\n", "rules.0 must be a valid dictionary; got 3."),
        ("model: m\nname: B\n", "name must be text that matches '^[a-z]+$'; got 'B'."),
        ("- model\n", "--config must be a YAML mapping; got 'list'."),
        ("model: [\n", "--config must be a YAML file; got"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, sentence):
    with pytest.raises(UsageError) as caught:
        load(Settings, write(tmp_path, text))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_the_nearest_key_is_suggested_with_the_file(tmp_path):
    path = write(tmp_path, "model: m\nsource: {unit_imgs: 3}\n")
    with pytest.raises(UsageError, match=rf"in {path}\. Did you mean 'unit_images'\?"):
        load(Settings, path)


def test_a_missing_field_names_its_flag():
    with pytest.raises(ConfigError, match="model must be given; got nothing. Add --model, or `model:`"):
        load(Settings)


def test_a_validator_s_own_sentence_is_kept():
    with pytest.raises(ConfigError, match=r"^model must be free of spaces; got 'a b'\. Rename it\.$"):
        load(Settings, model="a b")


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="--config must be a readable YAML file; got .*No such file or directory"):
        load(Settings, tmp_path / "none.yaml")


def test_yaml_cannot_build_objects(tmp_path):
    with pytest.raises(UsageError, match="could not determine a constructor"):
        load(Settings, write(tmp_path, "model: !!python/object/apply:os.getcwd []\n"))


@pytest.mark.parametrize("text", ["!!int x", "!!bool x", "!!timestamp x", "[" * 1000, "0x" + "9" * 5000])
def test_a_value_that_yaml_cannot_convert_is_one_line(tmp_path, text):
    with pytest.raises(UsageError) as error:
        load(Settings, write(tmp_path, f"model: {text}\n"))
    assert len(str(error.value)) < 3000


def test_a_few_lines_that_stand_for_billions_of_values_are_not_written_out(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)), "model: *a11"]
    with pytest.raises(UsageError) as error:
        load(Settings, write(tmp_path, "\n".join(lines)))
    assert len(str(error.value)) < 3000


@pytest.mark.parametrize("source", ["", "5", "text", "[a]"])
def test_a_source_that_is_no_mapping_beside_an_input(tmp_path, source):
    path = write(tmp_path, f"model: m\noutput: o\ninput: i\nsource: {source}\n")
    if source == "":
        assert load(ScoreSettings, path).source_of_input() == SourceConfig(input_uri="i")
        return
    with pytest.raises(UsageError, match="source must be a valid dictionary"):
        load(ScoreSettings, path)


def test_the_source_may_name_the_input_too(tmp_path):
    text = "model: m\noutput: o\nsource: {input_uri: of the source, date: 2026-01-02}\n"
    path = write(tmp_path, text)
    assert load(ScoreSettings, path).source_of_input() == SourceConfig(input_uri="of the source", date="2026-01-02")
    assert load(ScoreSettings, path, input="flag").input == "flag"
    with pytest.raises(UsageError, match="input must be given once; got 'input and source.input_uri'. Remove one of them"):
        load(ScoreSettings, write(tmp_path, text + "input: own\n"))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "''", "x" * 5000])
def test_a_time_zone_that_there_is_not(tmp_path, zone):
    with pytest.raises(ConfigError, match="timezone must be a name such as Europe/Berlin"):
        load(ScoreSettings, write(tmp_path, f"model: m\noutput: o\ninput: i\ntimezone: {zone}\n"))
