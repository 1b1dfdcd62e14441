"""Chooses without labels, by how well a model tells held-out good images from synthetic defects made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fitting import synthetic
from models.metrics.bootstrap import interval
from models.metrics.ranking import auroc

LOGIT_LIMIT = 0.001
LEAST_HELD_OUT, LEAST_GROUPS = 8, 2  # images, and groups of them
GAUSSIAN_AUROC = 0.8  # severities are set so that a Gaussian on the same features gets about this much


def logit(value: float) -> float:
    """log(p / (1 - p)); p is kept within [0.001, 0.999] so that one perfect family does not decide alone.

    >>> logit(0.5), logit(1.0) == logit(0.999)
    (0.0, True)
    """
    p = min(max(value, LOGIT_LIMIT), 1 - LOGIT_LIMIT)
    return float(np.log(p / (1 - p)))


def can_weigh(groups: Sequence[str]) -> bool:
    """Whether held-out images of these groups, (N,), say how much good images vary, so that scores can be weighed by it.

    >>> can_weigh(["a", "b"] * 4), can_weigh(["a"] * 8), can_weigh(["a", "b"])
    (True, False, False)
    """
    return len(groups) >= LEAST_HELD_OUT and len(set(groups)) >= LEAST_GROUPS


@dataclass(frozen=True)
class Criterion:
    """value: mean logit-AUROC over families.  families: AUROC of each."""

    value: float
    families: dict[str, float]


@dataclass(frozen=True)
class ExamScores:
    """A model's scores of held-out good images, (N,), and of each family of synthetic defects made of them, (N,).

    >>> scores = ExamScores(np.array([1.0, 2.0]), {"spot": np.array([3.0, 4.0]), "scar": np.array([1.0, 2.0])})
    >>> scores.criterion().families
    {'spot': 1.0, 'scar': 0.5}
    """

    good: NDArray[np.floating]
    defects: Mapping[str, NDArray[np.floating]]

    def criterion(self, drawn: NDArray[np.int64] | None = None) -> Criterion:
        """The criterion over all images, or over the images at the drawn positions."""
        chosen = np.arange(len(self.good)) if drawn is None else drawn
        return criterion(self.good[chosen], {name: scores[chosen] for name, scores in self.defects.items()})


def criterion(good: NDArray[np.floating], defects: Mapping[str, NDArray[np.floating]]) -> Criterion:
    """Of the scores of good images, (G,), and of each family's defects, (N,).

    >>> criterion(np.array([1.0, 2.0]), {"spot": np.array([3.0])}).families
    {'spot': 1.0}
    """
    aurocs = {name: _auroc(good, scores) for name, scores in defects.items()}
    return Criterion(float(np.mean([logit(value) for value in aurocs.values()])), aurocs)


def standard_error(first: ExamScores, second: ExamScores, groups: Sequence[str], draws: int = 200) -> float:
    """The standard error of the difference of two models' criteria on the same images, by bootstrap over groups.

    >>> good = np.array([1.0, 2.0, 3.0, 4.0])
    >>> same = ExamScores(good, {"spot": good + 1.5})
    >>> standard_error(same, same, groups=list("abcd"))
    0.0
    """

    def difference(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([first.criterion(drawn).value - second.criterion(drawn).value])

    found = interval(difference, groups, draws)
    # Half of the 95 % interval is 1.96 standard errors. A single group has no interval, so nothing is significant.
    width = float(found.high[0] - found.low[0])
    return width / 3.92 if np.isfinite(width) else np.inf


def choose_severity(family: str, gaussian: Callable[[float], NDArray[np.floating]], good: NDArray[np.floating]) -> float:
    """The severity of the ladder at which a Gaussian's AUROC comes nearest to 0.8.

    Args:
        family: one of synthetic.FAMILIES.
        gaussian: severity to Mahalanobis scores of that family's images.
        good: the Gaussian's scores of the good images.

    >>> good = np.linspace(0, 1, 50)
    >>> choose_severity("spot", lambda severity: good + 0.4 * severity, good)
    1.0
    """
    ladder = synthetic.SEVERITY_LADDER
    low, high = 0, len(ladder) - 1
    distance: dict[float, float] = {}
    while low <= high:
        middle = (low + high) // 2
        value = _auroc(good, gaussian(ladder[middle]))
        distance[ladder[middle]] = abs(value - GAUSSIAN_AUROC)
        if value < GAUSSIAN_AUROC:
            low = middle + 1
        else:
            high = middle - 1
    return min(distance, key=lambda severity: distance[severity])


class EarlyStop:
    """Asks to stop after `patience` epochs in a row that were worse than the best by more than one standard error.

    A smaller difference is noise of the few selection images. It does not end a schedule before its last part, in which
    the learning rate falls.

    >>> stop = EarlyStop(patience=1, groups=list("abcd"))
    >>> good = np.array([1.0, 2.0, 3.0, 4.0])
    >>> stop.update(ExamScores(good, {"spot": good + 9})), stop.update(ExamScores(good, {"spot": good - 9}))
    (False, True)
    >>> stop.epochs()
    1
    """

    def __init__(self, patience: int, groups: Sequence[str]):
        self.patience, self.groups = patience, groups
        self.history: list[Criterion] = []
        self.best_epoch = 0
        self.worse = 0  # epochs in a row, up to the last one
        self._best: ExamScores | None = None

    def update(self, scores: ExamScores) -> bool:
        """Take the scores after one more epoch; True means stop."""
        self.history.append(scores.criterion())
        behind = self.history[self.best_epoch].value - self.history[-1].value
        if self._best is None or behind < 0:
            self._best, self.best_epoch, self.worse = scores, len(self.history) - 1, 0
        elif behind > standard_error(self._best, scores, self.groups):
            self.worse += 1
        else:
            self.worse = 0
        return self.worse >= self.patience

    def state_dict(self) -> dict[str, Any]:
        best = self._best
        return {
            "history": [(criterion.value, criterion.families) for criterion in self.history],
            "best_epoch": self.best_epoch,
            "worse": self.worse,
            "best": None if best is None else (best.good, dict(best.defects)),
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.history = [Criterion(value, families) for value, families in state_dict["history"]]
        self.best_epoch, self.worse = state_dict["best_epoch"], state_dict["worse"]
        self._best = None if state_dict["best"] is None else ExamScores(*state_dict["best"])

    def epochs(self) -> int:
        """How many epochs to keep: all, unless the last was worse than the best by more than one standard error."""
        return self.best_epoch + 1 if self.worse else len(self.history)


def _auroc(good: NDArray[np.floating], defects: NDArray[np.floating]) -> float:
    labels = np.concatenate([np.zeros(len(good), bool), np.ones(len(defects), bool)])
    return auroc(np.concatenate([good, defects]), labels)
