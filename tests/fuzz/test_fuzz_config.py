"""Any text in a settings file gives settings, or one sentence that ends the job with exit code 2."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz, mutated
from pydantic import BaseModel

from jobs.command.config import load
from jobs.command.errors import ExitCode, exit_code
from jobs.evaluate import EvaluateSettings
from jobs.explain import ExplainSettings
from jobs.settings.calibration import CalibrateSettings
from jobs.settings.scoring import ScoreSettings
from jobs.settings.training import TrainSettings

SCORE = """\
model: s3://plant/model
input: s3://plant/archive
output: /results
retry_errors: false
source:
  key_pattern: "{line}/{date}/{lot}/{name}"
  date: "2026-01-02"
  unit_images: 64
  image_column: null
cache_dir: ~/.cache
max_image_pixels: 1_000_000
timezone: Europe/Berlin
explain: grad_cam
resources: {}
limits: &limits
  max_error_share: 0.05
  min_errors: 20
  accept_errors: false
"""
TRAIN = """\
input: /good
model_out: /model
detector: csflow
taps: [layer2, 3]
backbone_kwargs: {pretrained: no}
image_size: 192x320
calibration_share: 2.0e-1
training:
  epochs: 3
hyperparameters: {hidden: 4, kernels: [3]}
"""
CALIBRATE = """\
model: /model
input: s3://plant/good
key_pattern: "{line}/{lot}/{serial}_{camera}.png"
piece_key: lot,serial
view_key: camera
by: line
rates: [0.05, 0.01]
challenge: /bad
challenge_pattern: "{size}/{lot}/{serial}_{camera}.png"
size_key: size
repeats: /again
repeats_pattern: "{lot}/{serial}_{camera}.{take}.png"
repeat_key: take
"""
EVALUATE = "model: /m\ninput: /good\njson_file: /out.json\ndevice: cpu\ndraws: 100\n"
EXPLAIN = "model: /m\ninput: /good\noutput: /out\n"
FILES = {
    ScoreSettings: SCORE,
    TrainSettings: TRAIN,
    CalibrateSettings: CALIBRATE,
    EvaluateSettings: EVALUATE,
    ExplainSettings: EXPLAIN,
}
TEXTS = [
    *(
        "",
        "null",
        "~",
        "[]",
        "{}",
        "5",
        "-1",
        "1e999",
        ".nan",
        "9" * 5000,
        "yes",
        "2001-99-99",
        "2001-01-01T99:99:99Z",
        "0x",
        "0b",
    ),
    *("0x" + "f" * 5000, "1:99", "&a [*a]", "&a {b: *a}", "*limits", "<<: *limits", "!!int x", "!!int ''", "!!timestamp x"),
    *("!!bool x", "!!binary =", "!!python/name:os.system", "!!set {a}", "!!pairs [a]", "? [a]", "'\\0'", '"\\ud800"', "Europe"),
    *("[" * 500, "{a: " * 400, "- " * 400, "\t", "\0", "\ufeff", "--- a\n--- b"),
]
LAUGHS = "a: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


def check(model: type[BaseModel], path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load(model, path)
    except Exception as error:
        assert exit_code(error) == ExitCode.USAGE, (type(error), error)
        assert 0 < len(str(error)) < 20_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.yaml"


@pytest.mark.parametrize(("model", "text"), FILES.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_the_files_damaged_here_are_read_as_long_as_they_are_whole(path, model, text):
    path.write_text(text)
    load(model, path)


@fuzz(100)
@given(st.sampled_from(list(FILES)), st.data())
def test_a_damaged_file(path, model, data):
    check(model, path, data.draw(mutated([FILES[model].encode()])))


@fuzz(100)
@given(st.sampled_from(list(FILES)), st.data())
def test_any_value_in_any_place(path, model, data):
    lines = FILES[model].splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {data.draw(st.sampled_from(TEXTS))}"
    check(model, path, "\n".join(lines).encode())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@fuzz(100)
@given(st.sampled_from(list(FILES)), st.data())
def test_values_of_any_type(path, model, data):
    settings = yaml.safe_load(FILES[model])
    for _ in range(data.draw(st.integers(1, 3))):
        place = settings
        inner = [each for each in settings.values() if isinstance(each, dict) and each]
        if inner and data.draw(st.booleans()):
            place = data.draw(st.sampled_from(inner))
        place[data.draw(st.sampled_from(sorted(place, key=str)) | st.text(max_size=3) | st.integers())] = data.draw(values)
    check(model, path, yaml.safe_dump(settings).encode())


@pytest.mark.parametrize("model", FILES)
@pytest.mark.parametrize("name", ["input", "model", "source", "taps", "limits", "device", "rates", "by"])
def test_a_few_bytes_that_stand_for_billions_are_no_answer_of_billions(path, model, name):
    check(model, path, f"{LAUGHS}{name}: *a11\n".encode())
