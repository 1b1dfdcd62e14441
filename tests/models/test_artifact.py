import io
import json
import os
import pickle

import joblib
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from models import artifact, registry
from models.artifact import ArtifactError
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig

CONFIG = ArtifactConfig(
    name="tiny",
    backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
    input=InputConfig(height=64, width=64),
    hyperparameters={"whiten_dims": 8, "hidden": 4, "kernels": [3], "whiten_floor": 0.1 + 0.2},
    trained={"images": 3, "versions": {"timm": timm.__version__}},
)


@pytest.fixture(scope="module")
def detector():
    return registry.build(CONFIG)


@pytest.fixture
def saved(tmp_path, detector):
    return artifact.save(tmp_path / "model", CONFIG, detector, "# Card\n")


def test_what_is_written(saved):
    names = sorted(path.name for path in saved.directory.iterdir())
    assert names == ["card.md", "config.json", "digests.json", "model.safetensors"]
    assert [path.name for path in saved.directory.parent.iterdir()] == ["model"]
    text = (saved.directory / "config.json").read_text()
    assert text == artifact.file_text(json.loads(text))
    assert json.loads(text)["hyperparameters"]["whiten_floor"] == 0.1 + 0.2
    assert saved.calibration_digest is None
    assert len(saved.model_digest) == 64


def test_config_is_stored_resolved_and_read_back(saved, detector):
    assert saved.config == detector.config.model_copy(update={"trained": CONFIG.trained})
    assert saved.config.backbone.mean is not None and saved.config.map_height == 8


def test_an_artifact_of_an_earlier_time_keeps_its_map(tmp_path):
    """It was stored before the map could be chosen, and must not follow a default that came later."""
    hyperparameters = CONFIG.hyperparameters | {"map": "energy", "head": None}
    made = registry.build(CONFIG.model_copy(update={"hyperparameters": hyperparameters}))
    saved = artifact.save(tmp_path / "model", CONFIG, made, "# Card\n")
    path = saved.directory / artifact.CONFIG
    config = json.loads(path.read_text())
    assert [config["hyperparameters"].pop(name) for name in ("map", "head")] == ["energy", None]
    path.write_text(artifact.file_text(config))
    artifact.write_digests(saved.directory)
    found = artifact.read(saved.directory)
    assert found.config.hyperparameters == {**config["hyperparameters"], "map": "energy", "head": None}
    assert artifact.load(found).hyper == made.hyper != registry.build(CONFIG).hyper
    assert "map" not in ArtifactConfig(name="new").hyperparameters


def test_saving_twice_gives_the_same_digest(saved, detector, tmp_path):
    again = artifact.save(tmp_path / "again", CONFIG, detector, "another card")
    assert again.model_digest == saved.model_digest
    other = artifact.save(tmp_path / "other", CONFIG.model_copy(update={"name": "other"}), detector, "")
    assert other.model_digest != saved.model_digest


def test_the_folder_of_a_weights_file_is_not_stored(tmp_path):
    path = tmp_path / "given.safetensors"
    source = registry.build(CONFIG)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    config = CONFIG.model_copy(update={"backbone": CONFIG.backbone.model_copy(update={"weights": str(path)})})
    stored = artifact.save(tmp_path / "model", config, registry.build(config), "")
    assert str(tmp_path) not in (stored.directory / "config.json").read_text()
    assert stored.config.backbone.weights == "given.safetensors"
    path.unlink()
    assert artifact.load(stored).state_dict().keys() == source.state_dict().keys()


def test_saving_replaces_an_artifact_but_nothing_else(saved, detector, tmp_path):
    (saved.directory / "stale").write_text("")
    artifact.save(saved.directory, CONFIG, detector, "new")
    assert not (saved.directory / "stale").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("")
    with pytest.raises(ArtifactError, match="must be new, empty or an artifact"):
        artifact.save(other, CONFIG, detector, "")
    assert (other / "thesis.txt").exists()


def test_loading_touches_neither_network_nor_pickle(saved, monkeypatch):
    def refuse(*_args, **_fields):
        raise AssertionError("not allowed")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("torch.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    artifact.load(artifact.read(saved.directory))


def test_unknown_files_are_ignored(saved):
    (saved.directory / "notes.txt").write_text("mine")
    assert artifact.read(saved.directory) == saved


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "digests.json"])
def test_a_missing_file_is_named(saved, name):
    (saved.directory / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} must be there; it is missing"):
        artifact.read(saved.directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_byte_is_found(saved, name):
    path = saved.directory / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} must have the SHA-256 that digests.json records"):
        artifact.read(saved.directory)


def test_digests_that_contradict_themselves(saved):
    path = saved.directory / "digests.json"
    digests = json.loads(path.read_text())
    path.write_text(json.dumps(digests | {"model_digest": "0" * 64}))
    with pytest.raises(ArtifactError, match="must fit its own file list"):
        artifact.read(saved.directory)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="must list config.json, model.safetensors"):
        artifact.read(saved.directory)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="must be JSON"):
        artifact.read(saved.directory)


def test_no_such_directory(tmp_path):
    with pytest.raises(ArtifactError, match="is not there"):
        artifact.read(tmp_path / "nix")


def test_a_config_of_another_version(saved):
    path = saved.directory / "config.json"
    path.write_text(artifact.file_text(json.loads(path.read_text()) | {"invented": 1}))
    artifact.write_digests(saved.directory)
    with pytest.raises(ArtifactError, match="invented: Extra inputs are not permitted"):
        artifact.read(saved.directory)


def test_weights_that_do_not_fit_the_config(saved):
    path = saved.directory / "model.safetensors"
    state = load_file(path)
    state.pop("whitening.bias")
    save_file(state, path)
    artifact.write_digests(saved.directory)
    with pytest.raises(ArtifactError, match='Missing key.*"whitening.bias"'):
        artifact.load(artifact.read(saved.directory))


def test_a_calibration_has_its_own_digest(saved):
    for name in artifact.CALIBRATION_FILES:
        (saved.directory / name).write_text("{}")
    with pytest.raises(ArtifactError, match="calibration.json must have the SHA-256"):
        artifact.read(saved.directory)
    artifact.write_digests(saved.directory)
    calibrated = artifact.read(saved.directory)
    assert calibrated.model_digest == saved.model_digest
    assert calibrated.calibration_digest is not None


@pytest.mark.parametrize("wrong", [{"detector": "nix"}, {"hyperparameters": {"hidden": "many"}}, {"hyperparameters": {"x": 1}}])
def test_a_config_that_no_detector_is_built_from(saved, wrong):
    path = saved.directory / "config.json"
    path.write_text(artifact.file_text(json.loads(path.read_text()) | wrong))
    artifact.write_digests(saved.directory)
    with pytest.raises(ArtifactError, match="config.json must describe a detector"):
        artifact.load(artifact.read(saved.directory))


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def hostile(saved, config=None, weights=None):
    """The artifact with other content and the digests that go with it: a digest is no signature."""
    if config is not None:
        path = saved.directory / "config.json"
        path.write_text(artifact.file_text(config(json.loads(path.read_text()))))
    if weights is not None:
        (saved.directory / "model.safetensors").write_bytes(weights)
    artifact.write_digests(saved.directory)
    return saved.directory


@pytest.mark.parametrize("by", ["pickle", "torch", "torch, old", "joblib"])
def test_weights_are_never_unpickled(saved, tmp_path, by):
    bomb, sink = Bomb(tmp_path / "executed"), io.BytesIO()
    if by == "pickle":
        sink.write(pickle.dumps(bomb))
    elif by == "joblib":
        joblib.dump({"state_dict": bomb}, sink)
    else:
        torch.save({"state_dict": bomb}, sink, _use_new_zipfile_serialization=by == "torch")
    opened = artifact.read(hostile(saved, weights=sink.getvalue()))
    with pytest.raises(ArtifactError, match="model.safetensors must hold the weights"):
        artifact.load(opened)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 1000,
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16000000000]}}',
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
    ],
)
def test_weights_with_a_hostile_header(saved, header):
    weights = len(header).to_bytes(8, "little") + header + bytes(16)
    with pytest.raises(ArtifactError, match="model.safetensors must hold the weights"):
        artifact.load(artifact.read(hostile(saved, weights=weights)))
    with pytest.raises(ArtifactError, match="model.safetensors must hold the weights"):
        artifact.load(artifact.read(hostile(saved, weights=(1 << 62).to_bytes(8, "little") + b"{}")))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "hf-hub:somebody/model"}, "backbone must be a timm model"),
        ({"name": "local-dir:/tmp/model"}, "backbone must be a timm model"),
        ({"name": "../../model"}, "backbone must be a timm model"),
        *(
            ({"kwargs": {argument: "/tmp/x"}}, f"kwargs must be arguments of the network; got {argument}")
            for argument in ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
        ),
    ],
)
def test_a_config_that_would_load_something_else(saved, change, named):
    directory = hostile(saved, lambda config: config | {"backbone": config["backbone"] | change})
    with pytest.raises(ArtifactError, match=named):
        artifact.read(directory)


@pytest.mark.parametrize("name", ["../csflow", "os", "csflow.os", "models.detectors.csflow", "__init__", ""])
def test_a_config_cannot_import_anything_but_a_detector(saved, name):
    opened = artifact.read(hostile(saved, lambda config: config | {"detector": name}))
    with pytest.raises(ValueError, match="detector must be one of"):
        artifact.load(opened)


def test_a_hub_or_file_that_a_config_names_for_weights_is_not_asked(saved, monkeypatch):
    def refuse(*_args, **_fields):
        raise AssertionError("not allowed")

    monkeypatch.setattr("socket.socket.connect", refuse)
    for weights in ("hub", "/etc/passwd", "https://example.com/x"):
        directory = hostile(saved, lambda c, w=weights: c | {"backbone": c["backbone"] | {"weights": w}})
        artifact.load(artifact.read(directory))


def with_structure(**changes):
    """A change of what a config says of the network's structure; None instead of all changes leaves it out."""

    def changed(config):
        structure = {**config["backbone"]["structure"], **changes} if changes else None
        return config | {"backbone": config["backbone"] | {"structure": structure}}

    return changed


def test_loading_runs_no_network_and_draws_no_weights_for_it(saved, detector, monkeypatch):
    state = torch.get_rng_state()
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda module, *_: pytest.fail(f"{type(module).__name__} ran"))
    monkeypatch.setattr("models.backbones.backbone._built", lambda *_: pytest.fail("built by running it"))
    loaded = artifact.load(saved)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert loaded.config.backbone.structure == detector.config.backbone.structure


@pytest.mark.parametrize("changes", [{}, {"sizes": [[64, 64]], "grids": [[[8, 8]]]}])
def test_without_a_structure_that_fits_the_network_is_built_by_running_it(saved, changes):
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = artifact.load(saved).score(images)
    loaded = artifact.load(artifact.read(hostile(saved, with_structure(**changes))))
    assert loaded.config.backbone.structure == saved.config.backbone.structure
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.score(images), strict=True))


def test_a_structure_is_part_of_the_digest(saved):
    assert artifact.read(hostile(saved, with_structure())).model_digest != saved.model_digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "structure.version: Input should be 1"),
        ({"grids": [[[8, 8]]]}, "grids must be those of 1 taps at 3 sizes"),
        ({"channels": [10**9]}, "structure.channels.0: Input should be less than"),
        ({"pruned": ["nix"]}, "structure must name layers of the backbone 'test_resnet'"),
        ({"pruned": [""]}, "structure must name layers of the backbone"),
        ({"folded": [["conv1", "layer1"]]}, "structure must name layers of the backbone"),
        ({"float32": ["layer9"]}, "structure must name layers of the backbone"),
        ({"pruned": ["layer1"], "folded": [], "float32": []}, "model.safetensors must hold the weights"),
        ({"pruned": []}, "model.safetensors must hold the weights"),
        ({"folded": []}, "model.safetensors must hold the weights"),
        ({"channels": [5]}, "model.safetensors must hold the weights"),
    ],
)
def test_a_structure_that_is_not_the_networks(saved, changes, said):
    with pytest.raises(ArtifactError, match=said):
        artifact.load(artifact.read(hostile(saved, with_structure(**changes))))


def test_exact_layers_that_are_no_convolutions(saved):
    change = with_structure(float32=["layer1"])
    directory = hostile(saved, lambda config: change(config) | {"precision": "bf16"})
    with pytest.raises(ArtifactError, match="float32 must name convolutions of the backbone; got 'layer1'"):
        artifact.load(artifact.read(directory))


def trained_by(timm_version, **changes):
    return lambda config: config | {"trained": {"versions": {"timm": timm_version}}} | changes


def test_what_this_timm_has_trained_is_not_loaded_to_be_checked(saved, monkeypatch):
    monkeypatch.setattr(artifact, "load", lambda *_args: pytest.fail("loaded"))
    artifact.check(artifact.read(hostile(saved, trained_by(timm.__version__))))


@pytest.mark.parametrize("versions", [{"timm": "0.0.1"}, None, "1"])
def test_what_other_versions_have_trained_is_loaded_to_be_checked(saved, versions):
    directory = hostile(saved, trained_by("0.0.1", trained={"versions": versions}))
    artifact.check(artifact.read(directory))
    hostile(saved, lambda config: config | {"backbone": config["backbone"] | {"name": "resnet_nix"}})
    with pytest.raises(ArtifactError, match="backbone must be a timm model; got 'resnet_nix'"):
        artifact.check(artifact.read(directory))


@pytest.mark.parametrize("changes", [{"channels": [5]}, {"float32": []}, {"sizes": [[64, 64]], "grids": [[[8, 8]]]}])
def test_another_timm_must_find_the_structure_that_is_stored(saved, changes):
    same = hostile(saved, trained_by("0.0.1"))
    assert artifact.load(artifact.read(same)).config.backbone.structure == saved.config.backbone.structure
    other = with_structure(**changes)
    directory = hostile(saved, lambda config: other(trained_by("0.0.1")(config)))
    for use in (artifact.check, artifact.load):
        with pytest.raises(ArtifactError, match="config.json must describe a detector .* timm .* builds another network than"):
            use(artifact.read(directory))


def test_a_detector_that_is_not_there_is_found_when_checked(saved):
    directory = hostile(saved, trained_by(timm.__version__, detector="nix"))
    with pytest.raises(ArtifactError, match="detector must be one of .*csflow.*; got 'nix'"):
        artifact.check(artifact.read(directory))


def test_json_nested_without_end(saved):
    (saved.directory / "digests.json").write_text("[" * 1_000_000)
    with pytest.raises(ArtifactError, match="digests.json must be JSON"):
        artifact.read(saved.directory)
