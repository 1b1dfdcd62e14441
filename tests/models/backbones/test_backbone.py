import copy
import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from models.backbones.backbone import KNOWN_FILES, BackboneConfig, BackboneError, create, resolve
from models.backbones.config import NAME, NOT_KWARGS

ASSETS = os.environ.get("FLOWSCORE_ASSETS", "")
MOBILENET = Path(ASSETS) / KNOWN_FILES["mobilenetv1_100"]
needs_file = pytest.mark.skipif(
    not (ASSETS and MOBILENET.is_file()), reason="the MobileNetV1 weights are not there: set FLOWSCORE_ASSETS"
)


def random_backbone(name: str, *taps: str | int, size: tuple[int, int] = (64, 96), **kwargs):
    config = resolve(BackboneConfig(name=name, taps=taps, weights="none", kwargs=kwargs))
    return create(config, *size)


@pytest.fixture
def small_file(tmp_path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "small.safetensors"
    model = timm.create_model("test_resnet", pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    save_file(model.state_dict(), path, metadata={"timm_model": "test_resnet", "mean": "0,0.1,0.2", "std": "1,2,3"})
    return path


SMALL = ["test_resnet", "test_efficientnet", "test_byobnet", "test_convnext"]
NAMED = ["mobilenetv1_100", "efficientnet_b5", "resnet18", "wide_resnet50_2"]
WIDTHS = ["mobilenetv1_125", "mobilenetv2_050"]  # width multipliers are timm's own variants; the resolution is --image-size


@pytest.mark.parametrize("name", [*SMALL, *NAMED, *WIDTHS])
def test_maps_are_timms(name):
    backbone = random_backbone(name, 0, 1)
    torch.manual_seed(0)
    reference = timm.create_model(name, pretrained=False, features_only=True, out_indices=(0, 1)).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = timm.create_model(name, pretrained=False).eval()
    images = torch.randn(2, 3, 64, 96)
    expected = whole.forward_intermediates(images, indices=[0, 1], intermediates_only=True)
    for x, y, shape in zip(backbone(images), expected, reference(images), strict=True):
        assert x.shape == shape.shape
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_taps_by_name_equal_taps_by_index_in_the_order_asked_for():
    images = torch.randn(1, 3, 64, 64)
    by_index = random_backbone("mobilenetv1_100", 3, 1)(images)
    by_name = random_backbone("mobilenetv1_100", "blocks.3", "blocks.1")(images)
    assert [x.shape[1] for x in by_index] == [512, 128]
    assert all(torch.equal(a, b) for a, b in zip(by_index, by_name, strict=True))


def test_threads_share_a_backbone():
    backbone = random_backbone("test_resnet", "layer2", "layer1")
    images = torch.rand(40, 3, 64, 96, generator=torch.Generator().manual_seed(0)).split(1)
    wanted = [backbone(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, maps in zip(pool.map(backbone, images), wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, maps, strict=True))
    copied = copy.deepcopy(backbone)
    assert all(torch.equal(a, b) for a, b in zip(copied(images[0]), wanted[0], strict=True))
    assert backbone.model(images[0]).shape[0] == 1, "outside of a pass the hooks are silent"


def test_the_tap_of_the_original_cs_flow_is_read_by_name():
    backbone = random_backbone("efficientnet_b5", "blocks.5", size=(64, 96))
    assert [tuple(x.shape) for x in backbone(torch.randn(1, 3, 64, 96))] == [(1, 304, 2, 3)]


def test_layers_beyond_the_deepest_tap_are_dropped():
    shallow, deep = random_backbone("mobilenetv1_100", 1), random_backbone("mobilenetv1_100", 4)
    assert not any(key.startswith(("model.blocks.2", "model.classifier")) for key in shallow.state_dict())
    assert sum(p.numel() for p in shallow.parameters()) < 0.1 * sum(p.numel() for p in deep.parameters())


@pytest.mark.parametrize("name", NAMED)
def test_levels_of_stride_4_8_and_16_are_found(name):
    config = resolve(BackboneConfig(name=name, weights="none"), (4, 8, 16))
    maps = create(config, 64, 96)(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6)]


def test_a_vision_transformer_gives_maps_by_index():
    assert random_backbone("test_vit", 1, size=(160, 160))(torch.randn(1, 3, 160, 160))[0].ndim == 4


def test_default_tap_has_reduction_16():
    config = resolve(BackboneConfig(name="mobilenetv1_100", weights="none"))
    assert config.taps == (3,)
    assert config.mean == (0.5, 0.5, 0.5)


def test_it_stays_frozen_and_in_evaluation_mode():
    backbone = random_backbone("test_resnet", 1).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())


def test_random_weights_follow_the_seed():
    config = resolve(BackboneConfig(name="test_resnet", taps=(1,), weights="none"))
    other = config.model_copy(update={"seed": 1})
    images = torch.randn(1, 3, 64, 64)
    first, second, third = (create(c, 64, 64)(images)[0] for c in (config, config, other))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_weights_from_a_file(small_file):
    config = resolve(BackboneConfig(name="test_resnet", taps=("layer2",), weights=str(small_file)))
    assert config.mean == (0.0, 0.1, 0.2) and config.std == (1.0, 2.0, 3.0)
    backbone, images = create(config, 64, 64), torch.randn(2, 3, 64, 64)
    whole = timm.create_model("test_resnet", pretrained=False).eval()
    whole.load_state_dict(load_file(small_file))
    expected = whole.forward_intermediates(images, indices=[2], intermediates_only=True)[0]
    torch.testing.assert_close(backbone(images)[0], expected, rtol=1e-3, atol=1e-4)
    unfolded = create(config.model_copy(update={"fold_batch_norms": False}), 64, 64)
    assert any("running_mean" in key for key in unfolded.state_dict())
    assert not any("running_mean" in key for key in backbone.state_dict())
    torch.testing.assert_close(unfolded(images)[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), "missing: layer1.0.conv1.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda s: s.update({"conv1.0.weight": torch.zeros(2, 3)}), r"other shapes: conv1.0.weight \(2, 3\) instead of"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(small_file, tmp_path, change, message):
    state = load_file(small_file)
    change(state)
    path = tmp_path / "changed.safetensors"
    save_file(state, path)
    config = resolve(BackboneConfig(name="test_resnet", taps=(2,), weights=str(path)))
    with pytest.raises(BackboneError, match=message):
        create(config, 64, 64)


def test_a_file_may_lack_what_no_tap_needs(small_file, tmp_path):
    state = {key: value for key, value in load_file(small_file).items() if not key.startswith(("layer3", "fc"))}
    path = tmp_path / "cut.safetensors"
    save_file(state, path)
    create(resolve(BackboneConfig(name="test_resnet", taps=(2,), weights=str(path))), 64, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "test_efficientnet", "weights": "FILE"}, "backbone must be 'test_resnet' for the weights file"),
        ({"weights": "absent.safetensors"}, "weights must be auto, hub, none or a safetensors file; got 'absent"),
        ({"taps": ("layer9",), "weights": "none"}, "taps must be layers of the backbone; got .*layer1"),
        ({"taps": (9,), "weights": "none"}, "backbone must run on 64 x 64 images"),
        ({"taps": ("global_pool",), "weights": "none"}, "taps must give maps"),
    ],
)
def test_configs_that_cannot_be_built(small_file, fields, message):
    fields = {"name": "test_resnet"} | fields
    if fields["weights"] == "FILE":
        fields["weights"] = str(small_file)
    with pytest.raises(BackboneError, match=message):
        create(resolve(BackboneConfig(**fields)), 64, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet_nix"}, "backbone must be a timm model; got 'resnet_nix'"),
        ({"taps": (1, "blocks.2")}, "taps must be distinct"),
        ({"tap": 1}, "Extra inputs"),
    ],
)
def test_fields_are_validated(fields, message):
    with pytest.raises(ValidationError, match=message):
        BackboneConfig(**fields)


@pytest.mark.parametrize("weights", ["hub", "auto"])
def test_an_unreachable_hub_is_one_sentence(monkeypatch, weights):
    def unreachable(*_args, **fields):
        if fields.get("pretrained"):
            raise OSError("no route")
        return create_model(*_args, **fields)

    create_model = timm.create_model
    monkeypatch.setattr("models.backbones.backbone.timm.create_model", unreachable)
    monkeypatch.setattr("models.backbones.backbone.check_hub", lambda name, source: None)  # it answered a moment ago
    monkeypatch.delenv("FLOWSCORE_ASSETS", raising=False)
    config = resolve(BackboneConfig(name="test_resnet", taps=(1,), weights=weights))
    assert config.weights == "hub"
    with pytest.raises(BackboneError, match="weights must be reachable; .*--weights FILE"):
        create(config, 64, 64)


@needs_file
def test_auto_takes_the_stored_file_and_says_so(monkeypatch):
    said = []
    monkeypatch.setattr("models.backbones.backbone.log.warning", lambda text, *values: said.append(text % values))
    config = resolve(BackboneConfig())
    assert config.weights == str(MOBILENET)
    assert config.kwargs == {"pad_type": "same", "bn_eps": 1e-3, "act_layer": "relu6"}
    assert config.mean == config.std == (0.5, 0.5, 0.5)
    assert len(said) == 1 and str(MOBILENET) in said[0] and "FLOWSCORE_ASSETS" in said[0]


@needs_file
@pytest.mark.parametrize("taps", [(3,), ("blocks.4.0",)])
def test_the_stored_file_loads_up_to_where_it_is_complete(taps):
    create(resolve(BackboneConfig(weights=str(MOBILENET), taps=taps)), 64, 64)


@needs_file
def test_the_stored_file_is_refused_beyond():
    with pytest.raises(BackboneError, match=r"missing: blocks\.4\.1\.conv_dw\.weight.* and 6 more.*shallower taps"):
        create(resolve(BackboneConfig(weights=str(MOBILENET), taps=(4,))), 64, 64)


def test_the_arguments_that_load_something_are_those_of_timm():
    assert set(inspect.signature(timm.create_model).parameters) == NOT_KWARGS | {"kwargs"}
    names = timm.list_models() + timm.list_pretrained()
    assert [name for name in names if not NAME.fullmatch(name)] == []
