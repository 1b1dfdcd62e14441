"""The layers of a backbone that a detector reads when the config names none and the reduction does not determine them.

EfficientNet-B5 has 39 blocks in 7 stages: 0-2, 3-7, 8-12, 13-19, 20-26, 27-35, 36-38, at reductions 2, 4, 8, 16, 16, 32, 32;
timm's `blocks.i` is stage i, its output that of the stage's last block.
"""

# CS-Flow (Rudolph et al. 2021, arXiv:2110.02855): the authors' code reads block 35, the last of 304 channels, reduction 32
# (tests/golden/README.md section 1). timm's features_only does not list it: its reduction-32 feature is `blocks.6`.
# PaDiM (Defard et al. 2020, arXiv:2011.08785, section IV-B): layers 7 (level 2), 20 (level 4) and 26 (level 5), quoted
# from memory, not checked. The levels are stages 2, 4 and 5 (counted from 1), of 40, 128 and 176 channels at reductions
# 4, 16 and 16; the authors published no code. We read the last block of each of these stages (0-based 7, 19 and 26;
# 20 is the 20th block), 344 channels, as public re-implementations do.
EFFICIENTNET_B5 = {"csflow": ("blocks.5",), "padim": ("blocks.1", "blocks.3", "blocks.4")}

# These were chosen on the magnetic tiles without test labels (docs/accuracy-grounds.md). `blocks.4.0` has reduction 32 and is
# the last layer in the weights file of the tests.
MOBILENET_V1 = {
    "csflow": ("blocks.3",),
    "differnet": ("blocks.3",),
    "fastflow": ("blocks.3", "blocks.4.0"),
    "cflow": ("blocks.3", "blocks.4.0"),
    "padim": ("blocks.2", "blocks.3", "blocks.4.0"),
}

# What a head beside a flow reads of a stride where that is not the last layer of it, or is deeper than the flow's taps. In
# EfficientNet-B5 it is CS-Flow's tap, in MobileNetV1 the layer after it.
LAYERS = {
    "mobilenetv1_100": {32: "blocks.4.0"},
    "efficientnet_b5": {32: "blocks.5"},
    "tf_efficientnet_b5": {32: "blocks.5"},
}

TAPS = {"mobilenetv1_100": MOBILENET_V1, "efficientnet_b5": EFFICIENTNET_B5, "tf_efficientnet_b5": EFFICIENTNET_B5}


def default_taps(detector: str, backbone: str) -> tuple[str, ...] | None:
    """Layer names that a detector reads from a backbone when the config names none; None means a choice by reduction.

    Args:
        detector: name of a file in models/detectors.
        backbone: timm's name, with or without the tag of its weights ("efficientnet_b5.sw_in12k_ft_in1k").

    >>> default_taps("csflow", "efficientnet_b5.sw_in12k_ft_in1k")
    ('blocks.5',)
    """
    return TAPS.get(backbone.split(".")[0], {}).get(detector)


def layer_of(reduction: int, backbone: str) -> str | None:
    """The layer that a head beside a flow reads of a stride; None means the last one, if it is not deeper than the flow's taps.
    The backbone is named as above.

    >>> layer_of(32, "mobilenetv1_100"), layer_of(16, "mobilenetv1_100")
    ('blocks.4.0', None)
    """
    return LAYERS.get(backbone.split(".")[0], {}).get(reduction)
