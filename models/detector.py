"""What every detector offers to training and scoring."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from models.config import ArtifactConfig


class Scored(NamedTuple):
    """score (B,) float32, raw, higher is more anomalous, NaN where it could not be computed; anomaly_map (B, h, w)
    float32; embedding (B, 32) float16."""

    score: Tensor
    anomaly_map: Tensor
    embedding: Tensor


class Detector(Protocol):
    """An nn.Module whose state dict holds everything that scores depend on, backbone included.

    An image's result never depends on the images scored with it: score() runs fixed batches of the artifact's
    batch_size, filled up with blank images.
    """

    config: ArtifactConfig  # with every default filled in

    def score(self, images: Tensor) -> Scored:
        """images: (N, H, W, 3) uint8 RGB of the artifact's input size."""

    def freeze(self) -> "Detector":
        """Prepare for scoring: evaluation mode, no gradients, weights in the arithmetic's own types and layouts."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, torch.Tensor], strict: bool = True): ...

    def to(self, device: str) -> "Detector": ...
