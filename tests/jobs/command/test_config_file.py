"""The names of options work in the file of --config, at every verb; what stands there twice or nowhere is said in one line."""

import importlib

import pytest
from pydantic import BaseModel

from jobs.cli import verbs
from jobs.command.config import load
from jobs.command.config_file import option_of, placed, read
from jobs.command.errors import UsageError
from jobs.command.flags import flags_of, nested, only_in_the_file
from jobs.settings.scoring import ScoreSettings
from jobs.settings.training import TrainSettings

OPTIONS = {  # option -> a value other than the default, as the command line and the file may have it
    **{"case": ["a", "b"], "measure": ["in-memory"], "list": True, "plan": 10, "nodes": 3, "size": "64x32", "store": "s3://b"},
    **{"images": 7, "in-memory": 9, "seconds": 0.5, "precision": "fp16", "csv": "a.csv", "save": True},
    **{"model": "m", "input": "i", "output": "o", "model-out": "m", "detector": "padim", "name": "n", "backbone": "b"},
    **{"weights": "none", "image-size": 64, "aspect": "keep", "epochs": 3, "white-level": 4095, "seed": 5, "device": "cpu"},
    **{"key-pattern": "{lot}/{name}", "date": "2024-06-03", "image-id": "key", "input-name": "plant", "members": "*.jpg"},
    **{"follow-links": True, "address": "auto", "explain": "gradient", "max-error-share": 0.5, "min-errors": 3},
    **{"accept-errors": True, "rate": "0.01", "review-budget": 4, "decided-by": "A. Meier", "from-now-on": True},
    **{"retry-errors": True, "listing": "l.csv", "group-key": "lot", "calibration-share": 0.3, "selection-share": 0.3},
    **{"exclude": "e.txt", "piece-key": "serial", "view-key": "camera", "by": "line", "rates": "0.01", "challenge": "c"},
    **{"size-key": "size", "repeats": "r", "repeat-key": "take", "json": "f.json", "groups": "g.csv", "method": "cam"},
    **{"layer": "backbone.1", "limit": 3, "good": "g", "cache-dir": "cache"},
    **{"pictures": "p", "overwrite": True, "workspace": "w", "stress": True, "roi": "m.png", "light": 0.4},
    **{"shading-correction": True},
}
OF_A_VERB = {("explain", "image-id"): ["0" * 32]}  # an option of this name has other values elsewhere
TOGETHER = {  # option -> what it needs beside it
    **{"image-id": ["input-name"], "input-name": ["image-id"], "size-key": ["challenge"]},
    **{"repeats": ["repeat-key", "piece-key"], "repeat-key": ["repeats", "piece-key"]},
}


def settings_of(verb: str) -> type[BaseModel]:
    notes = importlib.import_module(f"jobs.{verb}").main.__annotations__
    return next(kind for name, kind in notes.items() if name != "return")


WITH_A_FILE = [verb for verb in verbs() if only_in_the_file(settings_of(verb))]
CASES = [(verb, flag.name.removeprefix("--")) for verb in WITH_A_FILE for flag in flags_of(settings_of(verb)) if flag.name]


def written(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def given(model, names, options):
    """The settings by a command line of these options."""
    on_the_line = {flag.path[-1]: options[option_of(flag).replace("_", "-")] for flag in flags_of(model)}
    chosen = {flag.path[-1] for flag in flags_of(model) if option_of(flag).replace("_", "-") in names}
    values = {name: value if name in chosen else None for name, value in on_the_line.items()}
    return load(model, None, **nested(flags_of(model), values))


def test_readme_names_the_verbs_that_take_a_file():
    assert WITH_A_FILE == ["bench", "calibrate", "evaluate", "explain", "judge", "score", "train"]


@pytest.mark.parametrize(("verb", "option"), CASES)
@pytest.mark.parametrize("spelt", [lambda name: name, lambda name: name.replace("-", "_")], ids=["-", "_"])
def test_the_name_of_every_option_works_in_the_file(tmp_path, verb, option, spelt):
    model = settings_of(verb)
    options = OPTIONS | {name: value for (other, name), value in OF_A_VERB.items() if other == verb}
    required = [name.replace("_", "-") for name, field in model.model_fields.items() if field.is_required()]
    together = [] if (verb, option) in OF_A_VERB else TOGETHER.get(option, [])
    names = dict.fromkeys([*required, option, *together])
    lines = [f"{spelt(name)}: {options[name]!r}" for name in names]
    assert load(model, written(tmp_path, "\n".join(lines))) == given(model, names, options)
    without = {name for name in names if name != option and option not in TOGETHER.get(name, [])}
    if option not in required and not together:
        assert given(model, names, options) != given(model, without, options)


@pytest.mark.parametrize("verb", WITH_A_FILE)
def test_an_option_in_the_file_hides_no_field(verb):
    """An option of a section, whose name is at the top a field of its own, could not be given by its name."""
    model = settings_of(verb)
    flags = flags_of(model)
    assert len({option_of(flag) for flag in flags}) == len(flags)
    assert not [flag.path for flag in flags if option_of(flag) in model.model_fields and flag.path != (option_of(flag),)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "max_error_share: 0.1\nlimits: {max_error_share: 0.1}",
            "max_error_share must be given once; got 'limits.max_error_share",
        ),
        (
            "max-error-share: 0.1\nmax_error_share: 0.1",
            "max_error_share must be given once; got 'max-error-share and max_error_s",
        ),
        (
            "key-pattern: '{name}'\nsource: {key_pattern: '{name}'}",
            "key_pattern must be given once; got 'source.key_pattern and k",
        ),
        ("limits: {min_errors: 1, min_errors: 2}", "--config must be a YAML file; got"),
        ("device: cpu\ndevice: cpu", "the key 'device' stands twice"),
        ("unit_images: 3", "key of the config must be one of source, device, address"),
        ("unit_images: 3", "got 'unit_images'. Rename or remove it in"),
        ("unit_images: 3", "It belongs below `source:`."),
        ("unit_image: 3", "Did you mean 'unit_images' below `source:`?"),
        ("limits: {device: cpu}", "It belongs at the top."),
        ("limits: {key_pattern: '{name}'}", "It belongs at the top."),
        ("limits: {scorer_gpus: 0}", "It belongs below `resources:`."),
        ("limits: {min_error: 0}", "Did you mean 'min_errors'?"),
        ("max_eror_share: 0.1", "Did you mean 'max_error_share'?"),
        ("max_error_share: 7", "limits.max_error_share must be less than or equal to 1; got 7."),
    ],
)
def test_what_is_wrong_is_one_line_that_says_where_it_belongs(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        load(ScoreSettings, written(tmp_path, f"model: m\ninput: i\noutput: o\n{text}\n"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_settings_of_a_detector_have_sections_without_a_list(tmp_path):
    with pytest.raises(UsageError, match="`training:` takes settings of the detector's own fit, `hyperparameters:` takes"):
        load(TrainSettings, written(tmp_path, "input: i\nmodel_out: m\nlearning_rate: 0.1\n"))


@pytest.mark.parametrize(("text", "flag"), [("epochs: 3", None), ("training: {epochs: 3}", None), ("training: {epochs: 9}", 3)])
def test_epochs_have_two_places_and_the_command_line_wins(tmp_path, text, flag):
    settings = load(TrainSettings, written(tmp_path, f"input: i\nmodel_out: m\n{text}\n"), epochs=flag)
    assert settings.fit_settings() == {"epochs": 3}


def test_epochs_in_both_places(tmp_path):
    text = "input: i\nmodel_out: m\nepochs: 3\ntraining: {epochs: 4}\n"
    with pytest.raises(UsageError, match="epochs must be given once; got 'epochs and training.epochs'. Remove one of them"):
        load(TrainSettings, written(tmp_path, text))
    with pytest.raises(UsageError, match="epochs must be given once"):
        load(TrainSettings, None, input="i", model_out="m", epochs=3, training={"epochs": 4})  # as flowscore.fit does


def test_a_day_is_text_and_merged_keys_may_stand_twice(tmp_path):
    path = written(tmp_path, "a: &a {date: 2024-06-03, b: 1}\nc: {<<: *a, b: 2}\n")
    assert read(path)["c"] == {"date": "2024-06-03", "b": 2}


def test_sections_that_are_none_are_left_to_the_model():
    assert placed(ScoreSettings, {"limits": None, "min-errors": 1}) == {"limits": {"min_errors": 1}}
    assert placed(ScoreSettings, {"limits": 5, "min-errors": 1}) == {"limits": 5}
    assert placed(ScoreSettings, {"limits": None, "resources": None, 3: 4}) == {3: 4}
