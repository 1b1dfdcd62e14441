"""A damaged artifact is never loaded: one error names the file, even if its digests were made anew over the damage."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import TEXTS, fuzz, mutated

from models import artifact, registry
from models.artifact import CALIBRATION_FILES, CONFIG, DIGESTS, WEIGHTS, ArtifactError
from models.backbones.backbone import BackboneConfig, BackboneError
from models.config import ArtifactConfig, InputConfig

MODEL = ArtifactConfig(
    name="tiny",
    backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
    input=InputConfig(height=64, width=64),
    hyperparameters={"whiten_dims": 8, "hidden": 4, "kernels": [3]},
    trained={"images": 3},
)
COVERED = (CONFIG, WEIGHTS, *CALIBRATION_FILES)
LENGTH_BYTES = 8  # of the header, at the start of a safetensors file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of an artifact with a calibration, by name."""
    directory = tmp_path_factory.mktemp("whole") / "model"
    artifact.save(directory, MODEL, registry.build(MODEL), "card")
    for name in CALIBRATION_FILES:
        shutil.copy(directory / (CONFIG if name.endswith("json") else WEIGHTS), directory / name)
    artifact.write_digests(directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def write(directory, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)


def json_marks(content: bytes) -> list[int]:
    return [at for at in range(min(len(content), 5000)) if content[at : at + 1] in b'{}[]",:0123456789']


def weights_marks(content: bytes) -> list[int]:
    return list(range(min(LENGTH_BYTES + 300, len(content))))


def damaged(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    return mutated([content], 4, json_marks if name.endswith("json") else weights_marks)


@fuzz(150)
@given(st.data())
def test_damage_is_found_by_the_digests(whole, directory, data):
    name = data.draw(st.sampled_from(COVERED))
    content = data.draw(damaged(name, whole[name]))
    write(directory, whole | {name: content})
    if content == whole[name]:
        artifact.read(directory)
        return
    with pytest.raises(ArtifactError, match=f"{name} must have the SHA-256"):
        artifact.read(directory)


@fuzz(150)
@given(st.data())
def test_damaged_digests_never_let_anything_else_pass(whole, directory, data):
    write(directory, whole | {DIGESTS: data.draw(damaged(DIGESTS, whole[DIGESTS]))})
    try:
        found = artifact.read(directory)
    except ArtifactError:
        return
    assert found.model_digest == json.loads(whole[DIGESTS])["model_digest"]


@fuzz(100)
@given(st.data())
def test_weights_whose_digest_was_made_anew(whole, directory, data):
    write(directory, whole | {WEIGHTS: data.draw(damaged(WEIGHTS, whole[WEIGHTS]))})
    artifact.write_digests(directory)
    opened = artifact.read(directory)
    try:
        loaded = artifact.load(opened)
    except ArtifactError as error:
        assert WEIGHTS in str(error)
    else:
        assert loaded.state_dict().keys() == registry.build(MODEL).state_dict().keys()


@fuzz(100)
@given(st.data())
def test_a_config_whose_digest_was_made_anew(whole, directory, data):
    if data.draw(st.booleans()):
        content = data.draw(damaged(CONFIG, whole[CONFIG]))
    else:
        config = json.loads(whole[CONFIG])
        parts = [config, config["input"], config["backbone"], config["backbone"]["structure"], config["hyperparameters"]]
        inner = data.draw(st.sampled_from(parts))
        value = data.draw(st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=2))
        inner[data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=3))] = value
        content = json.dumps(config).encode()
    write(directory, whole | {CONFIG: data.draw(st.sampled_from([content, content, *TEXTS]))})
    artifact.write_digests(directory)
    try:
        artifact.load(artifact.read(directory))
    except (ArtifactError, BackboneError) as error:
        assert CONFIG in str(error) or WEIGHTS in str(error) or isinstance(error, BackboneError)
