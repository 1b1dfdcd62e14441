"""Some levels of features, as a part of a fit reads them: a member of an ensemble, or a flow without its head."""

from torch import Tensor

from models.detector import Features
from models.features.store import ImageFeatures
from models.maps.grids import Maps


class Levels:
    """Some levels of features; from disk, the others are not read.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> features = SimpleNamespace(read=lambda positions: [positions, 2 * positions, 3 * positions])
    >>> Levels(features, slice(1, 3)).read(torch.tensor([5]))
    [tensor([10]), tensor([15])]
    """

    def __init__(self, features: Features, levels: slice):
        self._features, self._levels = features, levels
        if isinstance(features, ImageFeatures) and features.stored is not None:
            numbers = range(len(features.stored.scales))[levels]
            self._features, self._levels = features.stored.of_levels(numbers), slice(None)

    def read(self, positions: Tensor) -> Maps:
        return self._features.read(positions)[self._levels]
