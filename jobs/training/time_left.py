"""How long a training still takes, from the measured times of its steps and of what lies between its epochs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from models.detector import Step


@dataclass
class _Measured:
    total_s: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        self.total_s, self.count = self.total_s + max(0.0, seconds), self.count + 1

    @property
    def mean_s(self) -> float:
        return self.total_s / self.count if self.count else 0.0


class TimeLeft:
    """Takes every step of a training, and says how many seconds there are to its last one.

    Between two epochs of the selection lies an exam, which may take as long as the epoch, so the whole is unknown until one was
    measured. It is what a selection takes that does not stop early.

    growth: images of the training over those of the selection's fit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.growth, self._clock = 1.0, clock
        self._steps, self._exams = _Measured(), _Measured()
        self._last: tuple[str, Step, float] | None = None

    def step(self, phase: str, step: Step) -> None:
        """One step of `selection` or `training` is done."""
        now = self._clock()
        if self._last is not None and self._last[0] == phase:
            seconds, before = now - self._last[2], self._last[1]
            if step.epoch == before.epoch:
                self._steps.add(seconds)
            else:
                self._exams.add(seconds - self._steps.mean_s)
        self._last = phase, step, now

    def of_phase(self) -> float | None:
        """Seconds to the end of the phase, without exams while none was measured; None before two steps."""
        if self._last is None or not self._steps.count:
            return None
        phase, step, _ = self._last
        epochs = step.epochs - step.epoch
        exams = epochs if phase == "selection" else 0
        return (step.steps * epochs - step.step - 1) * self._steps.mean_s + exams * self._exams.mean_s

    def seconds(self) -> float | None:
        """Seconds to the last step of the training; None while that cannot be known."""
        left = self.of_phase()
        if left is None or self._last is None:
            return None
        phase, step, _ = self._last
        if phase == "training":
            return left
        if not self._exams.count:
            return None
        return left + self.growth * step.epochs * step.steps * self._steps.mean_s
