"""Features are found by stride in networks that list them differently."""

import pytest

from models.backbones.config import BackboneConfig
from models.backbones.reductions import indices_of, taps_beside


@pytest.mark.parametrize(
    ("name", "reductions", "indices"),
    [
        ("mobilenetv1_100", (8, 16), (2, 3)),
        ("efficientnet_b5", (8, 32), (2, 4)),
        ("test_vit", (8, 16), (5,)),
        ("resnet18", (1,), (0,)),
    ],
)
def test_the_deepest_feature_of_a_stride_or_the_nearest_finer_one(name, reductions, indices):
    assert indices_of(name, {}, reductions) == indices


@pytest.mark.parametrize(
    ("taps", "beside"),
    [
        ((3,), (2, 3)),
        ((2,), (2,)),  # not as deep as stride 16
        (("blocks.5",), ("blocks.2", "blocks.4")),
        (("blocks.3",), ("blocks.2",)),
        (("blocks.1",), ("blocks.1",)),
    ],
)
def test_what_is_read_beside_taps_is_named_as_they_are_and_no_deeper(taps, beside):
    assert taps_beside(BackboneConfig(name="efficientnet_b5", taps=taps), (8, 16)) == beside
