"""Networks in fp16: what is rounded, what stays exact, and what is fused."""

import copy

import pytest
import timm
import torch
from torch import nn

from models.backbones.backbone import create, resolve
from models.backbones.config import BackboneConfig
from models.backbones.exact_layers import is_depthwise
from models.backbones.half import compute_in_half

SIDE = 64
NAMES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "mobilenetv1_100", "tf_mobilenetv3_small_minimal_100"]


def images() -> torch.Tensor:
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def network(name: str) -> nn.Module:
    kwargs = {"img_size": SIDE} if "vit" in name else {}
    return create(resolve(BackboneConfig(name=name, weights="none", kwargs=kwargs)), SIDE, SIDE)


@pytest.mark.parametrize("name", [name for name in NAMES if timm.is_model(name)])
def test_features_are_close_to_those_of_float32(name):
    exact = network(name)
    half = copy.deepcopy(exact)
    compute_in_half(half)
    with torch.no_grad():
        ones, others = exact(images()), half(images().half())
    for one, other in zip(ones, others, strict=True):
        assert other.dtype == torch.float16
        assert (other.float() - one).abs().max() < 0.02 * one.std()
    assert half.state_dict().keys() == exact.state_dict().keys()


def test_only_depthwise_weights_stay_in_float32():
    half = network("test_efficientnet")
    compute_in_half(half)
    kinds = {(is_depthwise(m), m.weight.dtype) for m in half.modules() if isinstance(m, nn.Conv2d)}
    assert kinds == {(True, torch.float32), (False, torch.float16)}


@pytest.mark.parametrize("fields", [{}, {"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_every_kind_of_depthwise_layer_is_exact(fields):
    layer = nn.Conv2d(4, 4 if fields else 8, 3, groups=4, **fields)
    half = copy.deepcopy(layer)
    compute_in_half(half)
    x = torch.randn(1, 4, 9, 9).half()
    with torch.no_grad():
        assert half.weight.dtype == torch.float32 and torch.equal(half(x), layer(x.float()).half())


def test_loaded_weights_are_rounded_too_and_copies_compute_the_same():
    exact = network("test_efficientnet")
    half = copy.deepcopy(exact)
    compute_in_half(half)
    other = network("test_efficientnet")
    compute_in_half(other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(exact.state_dict())
        expected = half(images().half())
        for found in (other, copy.deepcopy(half)):
            assert all(torch.equal(a, b) for a, b in zip(expected, found(images().half()), strict=True))


def test_the_activation_after_a_folded_depthwise_layer_joins_it():
    half = network("mobilenetv1_100")
    compute_in_half(half)
    layers = [m for m in half.modules() if is_depthwise(m)]
    assert len(layers) > 5 and {m.activation for m in layers} == {"relu6"}


def test_what_overflows_is_not_finite():
    """SiLU has no limit that could turn an infinite value into an ordinary one."""
    half = network("test_efficientnet")
    compute_in_half(half)
    with torch.no_grad():
        for module in half.modules():
            if isinstance(module, nn.Conv2d) and not is_depthwise(module):
                module.weight.mul_(30)
        maps = half(images().half())
    assert not any(torch.isfinite(x).all(dim=1).any() for x in maps)
