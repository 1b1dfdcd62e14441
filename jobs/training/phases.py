"""Says which phase of a training runs, what it does, and how long it and all the rest will take."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TextIO

from jobs.command.log import stamped
from jobs.command.progress import Progress, duration
from jobs.training.time_left import TimeLeft
from models.detector import Step, Work

READING, CHOOSING, LIGHT = "reading", "choosing", "light"
DEFECTS, SELECTION, TRAINING, SAVING = "defects", "selection", "training", "saving"
TITLES = {
    READING: "reading images and extracting features",
    CHOOSING: "choosing a detector by synthetic defects of held-out images",
    LIGHT: "making copies of the images in other light",
    DEFECTS: "making synthetic defects of held-out images",
    SELECTION: "selecting how many epochs to train",
    TRAINING: "training",
    SAVING: "saving the model",
}
AGAIN_S = 30.0  # between two lines on the time that is left in all


class Phases:
    """The phases of one training, in their order; as a context manager it ends the last one.

    Args:
        selects: whether there is a selection, which has two of the phases.
        lights: whether copies of the images in other light are made.
        chooses: whether the detector is chosen among several.
        cuts: whether the model sees tiles, which are then what a fit counts as images.

    left: what it is told of steps; its `growth` is set once the images are split.
    """

    def __init__(
        self,
        selects: bool,
        lights: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        chooses: bool = False,
        cuts: bool = False,
    ) -> None:
        happens = {CHOOSING: chooses, LIGHT: lights, DEFECTS: selects, SELECTION: selects}
        self._names = [name for name in TITLES if happens.get(name, True)]
        self._stream, self._clock = stream or sys.stderr, clock
        self._samples = "tiles" if cuts else "images"
        self.left = TimeLeft(clock)
        self._said_at: float | None = None
        self._open = ExitStack()
        self.progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def begin(self, name: str) -> None:
        """The phase before is over."""
        self._open.close()
        self.progress = None
        self._say(f"phase {self._names.index(name) + 1} of {len(self._names)}: {TITLES[name]}")
        if name != READING:  # who reads has its own
            progress = Progress(name, None, "steps", failed=None, stream=self._stream, clock=self._clock)
            self.progress = self._open.enter_context(progress)

    def step(self, name: str, step: Step) -> None:
        """A step of the selection or the training."""
        assert self.progress is not None
        done, total = step.epoch * step.steps + step.step + 1, step.steps * step.epochs
        self.left.step(name, step)
        now, left = self._clock(), self.left.of_phase()
        spent = now - self.progress.started
        # The share of the time, not of the steps: exams between the epochs may take longer than the steps.
        fraction = None if left is None or spent + left <= 0 else spent / (spent + left)
        self.progress.update(done=done, total=total, fraction=fraction, epoch=step.epoch + 1, loss=step.loss)
        seconds = self.left.seconds()
        if name == SELECTION and seconds is not None and (self._said_at is None or now - self._said_at >= AGAIN_S):
            self._said_at = now
            self._say(f"about {duration(seconds)} to the end of the training, less if the selection stops early")

    def work(self, work: Work) -> None:
        """What happens between steps."""
        assert self.progress is not None
        self.progress.note(*work._replace(unit=self._samples) if work.unit == "images" else work)

    def tell(self, line: str) -> None:
        """Print a result on standard output, which on a terminal is where the bar is too."""
        self._end_bar()
        print(line, flush=True)

    def _end_bar(self) -> None:
        if self.progress is not None:
            self.progress.end_bar()

    def _say(self, line: str) -> None:
        """As lines of progress are: with the time, unless a person looks on."""
        self._end_bar()
        print(line if self._stream.isatty() else stamped(line, self._stream), file=self._stream, flush=True)
