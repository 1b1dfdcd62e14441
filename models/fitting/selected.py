"""What a selection has found so far: figures and constants of every epoch, and the map maxima of held-out images."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.detector import Detector
from models.fitting.selection import Criterion, EarlyStop

WholeMaxima = Callable[[Detector], NDArray[np.float32]]
"""From a frozen detector to the largest value of the whole map of every held-out image, (N,), finite."""


@dataclass
class Epoch:
    """What is kept of the fit after one epoch: the result of fit_constants, the largest map value of every selection sample,
    and the criterion under light."""

    constants: dict[str, Tensor]
    maxima: NDArray[np.float32]
    under_light: Criterion | None = None


class Selected:
    """The epochs of the selection; a part of its checkpoint.

    stored_bytes: what is made of the selection images takes on disk.  whole: the largest value of each whole map, (N,), once
    `look_at_whole` was called after the last epoch.

    >>> found = Selected(patience=4, groups=["a", "b"])
    >>> found.epochs.append(Epoch({}, np.zeros(2, np.float32)))
    >>> len(found.state_dict()["epochs"])
    1
    """

    def __init__(self, patience: int, groups: Sequence[str]):
        self.stop = EarlyStop(patience, groups)
        self.severities: dict[str, float] = {}
        self.epochs: list[Epoch] = []
        self.stored_bytes = 0
        self.whole: NDArray[np.float32] | None = None
        self._best: dict[str, Tensor] = {}

    def look_at_whole(self, detector: Detector, ended: bool, whole_maxima: WholeMaxima) -> None:
        """Called after every epoch; after the last one it takes the maxima of whole maps with the weights of the kept epoch.

        These maps take long, so only the kept epoch has some. The end says which one that is: the last epoch, or the best one,
        whose weights are here until then. The detector stays as it is.
        """
        last = len(self.epochs)
        if not ended:
            if self.stop.best_epoch + 1 == last:
                self._best = {name: value.cpu().clone() for name, value in _changing(detector).items()}
            return
        kept = copy.deepcopy(detector)
        if self.stop.epochs() < last:
            weights = _changing(kept)
            for name, value in self._best.items():
                weights[name].copy_(value)
        self._best = {}
        self.whole = whole_maxima(kept.freeze())

    def state_dict(self) -> dict[str, Any]:
        epochs = [
            (epoch.constants, epoch.maxima, epoch.under_light and (epoch.under_light.value, epoch.under_light.families))
            for epoch in self.epochs
        ]
        return {
            "stop": self.stop.state_dict(),
            "severities": self.severities,
            "epochs": epochs,
            "stored_bytes": self.stored_bytes,
            "whole": self.whole,
            "best": self._best,
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.stop.load_state_dict(state_dict["stop"])
        self.severities, self.stored_bytes = state_dict["severities"], state_dict["stored_bytes"]
        self.whole, self._best = state_dict["whole"], state_dict["best"]
        self.epochs = [
            Epoch(constants, maxima, under_light and Criterion(*under_light))
            for constants, maxima, under_light in state_dict["epochs"]
        ]


def _changing(detector: Detector) -> dict[str, Tensor]:
    """The state without the weights that no fit changes, which are the backbone's."""
    fixed = {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in detector.state_dict().items() if name not in fixed}
