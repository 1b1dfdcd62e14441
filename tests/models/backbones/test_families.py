"""One small network of every family of timm that a plant may choose, through all that is done to a backbone."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models import artifact, registry
from models.backbones.backbone import Backbone, BackboneConfig, BackboneError, create, resolve
from models.config import ArtifactConfig, InputConfig

FAMILIES = {  # a network: the side of its images, timm's arguments that make it smaller, and the deepest tap's stride
    "test_resnet": (64, {}, 16),
    "resnext50_32x4d": (64, {"layers": (1, 1, 1, 1)}, 16),
    "wide_resnet50_2": (64, {"layers": (1, 1, 1, 1)}, 16),
    "res2net50_26w_4s": (64, {"layers": (1, 1, 1, 1)}, 16),
    "mobilenetv1_100": (64, {}, 16),
    "mobilenetv2_035": (64, {}, 16),
    "mobilenetv3_small_050": (64, {}, 16),
    "test_efficientnet": (64, {}, 16),
    "test_convnext": (64, {}, 16),
    "regnety_002": (64, {}, 16),
    "hrnet_w18_small": (64, {}, 16),
    "test_coatnet": (64, {"img_size": 64}, 16),
    "test_maxvit": (64, {"img_size": 64}, 16),
    "test_vit": (64, {"img_size": 64}, 16),
    "deit_tiny_patch16_224": (64, {"img_size": 64, "depth": 3}, 16),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64, "window_size": 4, "embed_dim": 24}, 16),
    "swinv2_tiny_window8_256": (64, {"img_size": 64, "window_size": 4, "embed_dim": 24}, 16),
    "densenet121": (64, {"block_config": (2, 2, 2, 2)}, 16),
    "vgg11_bn": (64, {"mlp_ratio": 0.01}, 16),
    "inception_v3": (96, {}, 24),
    "mobilevit_xxs": (64, {}, 16),
    "ghostnet_050": (64, {}, 16),
    "repvgg_a0": (64, {}, 16),
    "edgenext_xx_small": (64, {}, 16),
    "test_nfnet": (64, {}, 16),
    "test_mambaout": (64, {}, 16),
}


def photographs(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def weights_file(name: str, kwargs: dict, path) -> nn.Module:
    """The whole network with random weights and statistics, which it also writes to the file."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        whole = timm.create_model(name, pretrained=False, **kwargs).eval()
        for module in whole.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2),
                    (module.weight, 0.5, 2),
                ):
                    nn.init.uniform_(values, low, high)
    save_file({key: value.clone() for key, value in whole.state_dict().items()}, path)
    return whole


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Everything a module holds, whether a state dict has it or not."""
    return {
        f"{prefix}.{name}": value
        for prefix, part in module.named_modules()
        for values in (part._parameters, part._buffers, vars(part))
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family(name, tmp_path, monkeypatch):
    side, kwargs, stride = FAMILIES[name]
    whole = weights_file(name, kwargs, tmp_path / "weights.safetensors")
    # A copy of it has the same layers, and its weights, which are read from the file in any case.
    monkeypatch.setattr("models.backbones.backbone.network", lambda *_args: copy.deepcopy(whole))
    backbone = BackboneConfig(name=name, kwargs=kwargs, weights=str(tmp_path / "weights.safetensors"))
    input_size = InputConfig(height=side, width=side)
    fields = {"hyperparameters": {"scales": 1, "hidden": 4, "kernels": [1], "whiten_dims": 4}, "batch_size": 2}
    fields["trained"] = {"versions": {"timm": timm.__version__}}  # else loading builds the network by running it
    detector = registry.build(ArtifactConfig(name="tile", backbone=backbone, input=input_size, **fields))
    config, network = detector.config.backbone, detector.backbone.network

    images = detector.prepare(photographs(2, side))
    unpruned = Backbone(copy.deepcopy(whole), network.taps).to(memory_format=torch.channels_last)
    maps, unchanged = network(images), unpruned(images)
    structure = config.structure
    assert [tuple(x.shape[1:]) for x in maps] == [
        (c, *grid) for c, grid in zip(structure.channels, structure.grids[0], strict=True)
    ]
    assert side // maps[0].shape[2] == stride  # the flow's; the others are the position head's
    for found, expected in zip(maps, unchanged, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert len(network.state_dict()) < len(whole.state_dict())
    pruned = create(config.model_copy(update={"fold_batch_norms": False, "taps": network.taps}), side, side)
    assert all(torch.equal(a, b) for a, b in zip(pruned(images), unchanged, strict=True))

    saved = artifact.save(tmp_path / "model", detector.config, detector, "")
    monkeypatch.undo()
    monkeypatch.setattr(Backbone, "forward", lambda *_args: pytest.fail("loading ran the network"))
    loaded = artifact.load(saved)
    monkeypatch.undo()
    ones, others = tensors(detector.freeze()), tensors(loaded)
    assert ones.keys() == others.keys() and not any(x.is_meta for x in others.values())
    assert all(torch.equal(ones[key], others[key]) and ones[key].stride() == others[key].stride() for key in ones)
    detector.fitted = True
    pairs = zip(detector.score(photographs(2, side)), loaded.score(photographs(2, side)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


TRANSFORMERS = {  # and what makes it run at the sizes of a pyramid
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 2}, {"dynamic_img_size": True}),
    "deit_tiny_patch16_224": ({"img_size": 64, "depth": 2}, {"dynamic_img_size": True}),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 1, 1)},
        {"strict_img_size": False},
    ),
}


@pytest.mark.parametrize("detector", ["csflow", "differnet"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_under_a_detector_of_several_scales(name, detector):
    kwargs, flexible = TRANSFORMERS[name]

    def built(kwargs: dict):
        backbone = BackboneConfig(name=name, kwargs=kwargs, weights="none")
        size = InputConfig(height=64, width=64)
        return registry.build(ArtifactConfig(name="tile", detector=detector, backbone=backbone, input=size, batch_size=1))

    said = r"must run on 32 x 32 images \(the detector reads 3 sizes, this is number 2\).*dynamic_img_size.*strict_img_size"
    with pytest.raises(BackboneError, match=said):
        built(kwargs)
    made = built(kwargs | flexible).freeze()
    made.fitted = True
    score = made.score(photographs(1, 64)).score
    assert score.shape == (1,)


def test_a_tap_that_gives_no_map_names_the_fix():
    config = resolve(BackboneConfig(name="test_vit", taps=("blocks.1",), weights="none", kwargs={"img_size": 64}))
    with pytest.raises(BackboneError, match="taps must give maps .*timm's index"):
        create(config, 64, 64)
