import pytest
import torch

from models import registry
from models.backbone_taps import TAPS, default_taps
from models.backbones import Backbone, BackboneConfig, create

# Channels and reduction of every tap, from the papers' EfficientNet-B5.
EXPECTED = {"csflow": ((304, 32),), "padim": ((40, 4), (128, 16), (176, 16))}


@pytest.fixture(scope="module")
def efficientnet_b5() -> dict[str, torch.Tensor]:
    """The map of every tap that is named here, of one random network."""
    taps = tuple(sorted({tap for detector in EXPECTED for tap in default_taps(detector, "efficientnet_b5") or ()}))
    config = BackboneConfig(
        name="efficientnet_b5", taps=taps, weights="none", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fold_batch_norms=False
    )
    network: Backbone = create(config, 64, 64)
    return dict(zip(taps, network(torch.rand(1, 3, 64, 64)), strict=True))


@pytest.mark.parametrize("detector", EXPECTED)
def test_channels_and_reductions(detector, efficientnet_b5):
    taps = default_taps(detector, "efficientnet_b5")
    maps = [efficientnet_b5[tap] for tap in taps]
    assert tuple((x.shape[1], 64 // x.shape[2]) for x in maps) == EXPECTED[detector]


def test_weights_tags_and_ports_share_the_layers():
    for name in ("efficientnet_b5.sw_in12k_ft_in1k", "tf_efficientnet_b5", "tf_efficientnet_b5.ra_in1k"):
        assert default_taps("csflow", name) == ("blocks.5",)


def test_everything_else_goes_by_reduction():
    assert default_taps("padim", "resnet18") is None
    assert default_taps("padim", "efficientnet_b0") is None
    assert default_taps("fastflow", "efficientnet_b5") is None


def test_the_names_are_detectors():
    for taps in TAPS.values():
        assert taps.keys() <= set(registry.names())
