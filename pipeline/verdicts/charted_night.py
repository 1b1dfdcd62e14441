"""A night on the drift chart. Apart from the chart, whose statistics take half a second to import."""

from typing import Literal, NamedTuple

State = Literal["reference", "ok", "watch", "suspended"]


Numbers = tuple[float, ...]


class Measured(NamedTuple):
    """Of each channel: its value, the distance from the reference's mean in standard deviations, and the distance from which
    it is over. alarmed: names of those that are."""

    values: Numbers
    distances: Numbers
    limits: Numbers
    alarmed: tuple[str, ...]


class ChartedNight(NamedTuple):
    """A night on the chart, as the table `drift` has it. images: compared ones.  measured, carried: None for a reference night;
    measured also for nights that were read from the table.  carried: what the next night needs, JSON."""

    date: str
    state: State
    images: int
    reason: str
    sources: tuple[str, ...] = ()
    since: str | None = None
    measured: Measured | None = None
    carried: str | None = None

    @property
    def suspends(self) -> str:
        """Why no piece of the night is judged."""
        return f"drift: {' and '.join(self.sources)} since {self.since}"

    @property
    def warns(self) -> str:
        """What is said of a lot of the night that would be ok."""
        return f"the drift chart of the night says {self.reason}"
