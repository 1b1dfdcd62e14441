import pytest
import torch

from models import registry
from models.backbones.backbone import Backbone, BackboneConfig, create
from models.backbones.taps import TAPS, default_taps

# Channels and reduction of every tap; EfficientNet-B5's from the papers.
EXPECTED = {
    "efficientnet_b5": {"csflow": ((304, 32),), "padim": ((40, 4), (128, 16), (176, 16))},
    "mobilenetv1_100": {
        "csflow": ((512, 16),),
        "differnet": ((512, 16),),
        "fastflow": ((512, 16), (1024, 32)),
        "cflow": ((512, 16), (1024, 32)),
        "padim": ((256, 8), (512, 16), (1024, 32)),
    },
}


@pytest.mark.parametrize("backbone", EXPECTED)
def test_channels_and_reductions(backbone):
    detectors = EXPECTED[backbone]
    taps = tuple(sorted({tap for detector in detectors for tap in default_taps(detector, backbone) or ()}))
    config = BackboneConfig(
        name=backbone, taps=taps, weights="none", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fold_batch_norms=False
    )
    network: Backbone = create(config, 64, 64)
    maps = dict(zip(taps, network(torch.rand(1, 3, 64, 64)), strict=True))
    for detector, expected in detectors.items():
        found = [maps[tap] for tap in default_taps(detector, backbone) or ()]
        assert tuple((x.shape[1], 64 // x.shape[2]) for x in found) == expected


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
