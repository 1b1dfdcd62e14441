"""Explanations of the flagged images of a batch, as a scoring run stores them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.detector import Scored
from models.explain.explainer import Explainer
from models.explain.methods import Method


class FlaggedMaps(NamedTuple):
    """positions: (F,) int64, of the images that have an explanation. maps: (F, h, w) float32 on the anomaly map's grid."""

    positions: Tensor
    maps: Tensor


def explain_flagged(explainer: Explainer, images: Tensor, scored: Scored, threshold: float, method: Method) -> FlaggedMaps:
    """Explain the images whose anomaly map has a cell above the threshold; the others cost nothing.

    Here, flagged means that the image has at least one region (a cell in the padding counts too). A verdict cannot decide
    this, because it needs a calibration, which may come after scoring.

    Args:
        images: (N, H, W, 3) uint8. scored: of these images. threshold: ArtifactConfig.map_threshold, in map units.

    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", input=size, batch_size=1, hyperparameters=few)
    >>> detector, images = registry.build(config), torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    >>> _ = detector.load_state_dict(detector.state_dict())  # of a fitted one elsewhere
    >>> explain_flagged(Explainer(detector), images, detector.score(images), threshold=-1.0, method="gradient").maps.shape
    torch.Size([2, 4, 4])
    """
    height, width = scored.anomaly_map.shape[1:]
    flagged = (scored.anomaly_map > threshold).any(dim=2).any(dim=1) & torch.isfinite(scored.score)
    positions = flagged.nonzero()[:, 0]
    maps = [F.adaptive_avg_pool2d(explainer(images[i : i + 1], method), (height, width)) for i in positions.tolist()]
    empty = scored.anomaly_map.new_zeros(0, height, width)
    return FlaggedMaps(positions, torch.cat(maps) if maps else empty)
