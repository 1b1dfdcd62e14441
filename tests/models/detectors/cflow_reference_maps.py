"""CFLOW's published maps, for parity only: they depend on all images scored together, so no product score uses them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.maps.grids import Maps


class ReferenceMaps(NamedTuple):
    """All float64. likelihoods per level (B, h_l, w_l) in (0, 1]; raised, the same at image size, per level (B, H, W);
    anomaly_map (B, H, W), from 0 to the number of levels, higher is more anomalous; score (B,), the map's maximum."""

    likelihoods: Maps
    raised: Maps
    anomaly_map: Tensor
    score: Tensor


def reference_maps(log_probs: Maps, size: tuple[int, int]) -> ReferenceMaps:
    """Maps relative to the largest likelihood among the images given: every image's score depends on the others.

    Args:
        log_probs: per level log p / C of every cell, (B, h_l, w_l), nats per dimension.
        size: of the images, (H, W) in pixels.
    Source: the code of Gudovskiy et al. 2022, CFLOW-AD, arXiv:2107.12571 (tests/golden/README.md section 3).
    """
    likelihoods = [(level.double() - level.double().max()).exp() for level in log_probs]
    raised = [F.interpolate(p[:, None], size=size, mode="bilinear", align_corners=True)[:, 0] for p in likelihoods]  # (B, H, W)
    total = torch.stack(raised).sum(0)
    anomaly_map = total.max() - total
    return ReferenceMaps(likelihoods, raised, anomaly_map, anomaly_map.amax(dim=(1, 2)))
