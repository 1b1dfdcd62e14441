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
    ("name", "taps", "reductions", "beside"),
    [
        ("efficientnet_b5", (3,), (8, 16), (2, 3)),
        ("efficientnet_b5", (2,), (8, 16, 32), (2,)),  # not as deep as stride 16
        ("efficientnet_b5", ("blocks.5",), (8, 16), ("blocks.2", "blocks.4")),
        ("efficientnet_b5", ("blocks.3",), (8, 16), ("blocks.2",)),
        ("efficientnet_b5", ("blocks.1",), (8, 16), ("blocks.1",)),
        ("tf_efficientnet_b5", ("blocks.5",), (8, 16, 32), ("blocks.2", "blocks.4", "blocks.5")),
        ("efficientnet_b0", ("blocks.4",), (8, 16, 32), ("blocks.2", "blocks.4")),
        ("mobilenetv1_100", ("blocks.3",), (8, 32), ("blocks.2", "blocks.4.0")),  # a little deeper, as its table has it
        ("test_vit", (3,), (8, 16), (3,)),
    ],
)
def test_what_is_read_beside_taps_is_named_as_they_are_and_hardly_deeper(name, taps, reductions, beside):
    assert taps_beside(BackboneConfig(name=name, taps=taps), reductions) == beside
