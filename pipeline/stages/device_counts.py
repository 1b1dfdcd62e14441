"""Counts the faults of each device of a run, and decides which devices are left out. It knows nothing of Ray.

A device is left out when scorers on it failed MOST_FAULTS times in a row and finished no unit in between. An end without a
word (a kill, a crash) counts only while the model is loaded, since later it may be an image's doing: a unit is tried again
and then scored alone, whatever ended its scorers. So that one unit cannot condemn a device, the units that a scorer had at
the second fault in a row are set aside, and the third happens with others.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

MOST_FAULTS = 3

NEW_DEVICE_S = 600.0
"""How long to wait for an autoscaler's next device when none that is here works."""

BACK_S = 120.0
"""How long the place of a scorer whose device failed is kept for it: it owns units, and waits for a place behind scorers that
never had one."""

Part = tuple[int, int]
"""Number of a unit, and of its part."""


class GpuPlace(NamedTuple):
    """Where a scorer computes.

    node: Ray's id of it.  address: IP address of the node.  gpus: those of one scorer, as Ray names them.
    """

    node: str
    address: str
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        return f"GPU {', '.join(self.gpus)} of node {self.address} ({self.node[:8]})"


class Stream(NamedTuple):
    """number: of a stream of this run; later ones have larger numbers.  scorers: so many were asked for; 0: a lone worker, and
    no stream."""

    number: int
    scorers: int


NO_STREAM = Stream(0, 0)


class Go(Enum):
    """What a scorer is to do on its device: work; wait, since it owns no units and would only take them; yield its place, and
    come again; end for good, so that its units are lost and scored elsewhere; or refuse its units, which ends the run."""

    WORK = 1
    WAIT = 2
    YIELD = 3
    END = 4
    REFUSE = 5


class Told(NamedTuple):
    """aside: parts of units that the scorer does not try again.  again: whether its process follows one that had worked.
    message: why it refuses."""

    go: Go
    aside: tuple[Part, ...] = ()
    again: bool = False
    message: str = ""


@dataclass
class _Scorer:
    """worked: some process of it has loaded the model, so that Ray may have given it units.  at_work: it may use its device.
    reported: this process said that its device failed, and ends.  back_until: so long others yield their places to it."""

    process: str
    device: GpuPlace
    worked: bool = False
    loading: bool = True
    at_work: bool = False
    reported: bool = False
    back_until: float = 0.0
    aside: tuple[Part, ...] = ()


class DeviceCounts:
    """What is known of all devices and, of one stream, of its scorers.

    Args:
        nodes: ids of the nodes that are alive.
        end: ends the actor of a scorer for good.
    """

    def __init__(
        self,
        nodes: Callable[[], Collection[str]],
        end: Callable[[Any], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes, self._end, self._now = nodes, end, now
        self._actors: dict[str, Any] = {}
        self._in_a_row: Counter[GpuPlace] = Counter()
        self._left_out: dict[GpuPlace, str] = {}
        self._news: list[str] = []
        self._stream = NO_STREAM
        self._scorers: dict[str, _Scorer] = {}
        self._none_since: float | None = None
        self._gone = False

    def begin(self, stream: Stream) -> None:
        """A stream begins. What is known of devices stays."""
        self._stream = stream
        self._scorers.clear()
        self._none_since = None
        self._gone = False

    def dismiss(self, later: Stream) -> None:
        """The stream has ended: end its scorers. Ray keeps an actor that has lost units, and with it the device.

        Args:
            later: of a larger number, so that scorers of the stream that ask from now on end too.
        """
        self.begin(later)
        for actor in self._actors.values():
            self._end(actor)
        self._actors.clear()

    def ask(self, stream: Stream, name: str, process: str, device: GpuPlace, actor: Any) -> Told:
        """What a scorer's process is to do; it asks when it starts, and again while it waits.

        Args:
            actor: handle of the scorer; None for one that `dismiss` is not to end.
        """
        if stream.number < self._stream.number:
            return Told(Go.END)
        if stream.number > self._stream.number:  # Ray has started this actor again, and it knows nothing of the stream
            self.begin(stream)
        if actor is not None:
            self._actors[name] = actor
        before = self._scorers.get(name)
        if before is None or before.process != process:
            if before is not None:
                self._ended(before)
            before = self._scorers[name] = _Scorer(
                process, device, before is not None and before.worked, aside=() if before is None else before.aside
            )
        scorer = before
        scorer.at_work = device not in self._left_out
        if scorer.at_work and not scorer.worked and self._somebody_comes_back():
            scorer.at_work = False
            return Told(Go.YIELD)
        if scorer.at_work:
            self._none_since = None
            return Told(Go.WORK, scorer.aside, scorer.worked)
        alive = self._nodes()
        if any(other.at_work and other.device.node in alive for other in self._scorers.values()):
            self._none_since = None
            return Told(Go.END if scorer.worked else Go.WAIT)
        if self._none_since is None:
            self._none_since = self._now()
        # Ray Data makes no other scorer for one that has ended for good, so that one counts: nobody comes for it.
        placed = sum(other.device.node in alive for other in self._scorers.values())
        if placed < self._stream.scorers and self._now() < self._none_since + NEW_DEVICE_S:
            return Told(Go.WAIT)
        self._gone = self._stream.scorers > 0  # a lone worker only holds its device
        return Told(Go.REFUSE, message=self.none_left())

    def ready(self, name: str) -> None:
        """The scorer has loaded the model, or storage did not deliver it; it takes units now."""
        if (scorer := self._scorers.get(name)) is not None:
            scorer.loading, scorer.worked = False, True

    def finished(self, device: GpuPlace) -> None:
        """A scorer on the device has finished a unit, or several."""
        self._in_a_row[device] = 0

    def failed(self, name: str, device: GpuPlace, why: str, finished: bool, units: tuple[Part, ...]) -> None:
        """A scorer's process ends because of its device.

        Args:
            finished: whether it has finished a unit and not said so yet.
            units: parts of units that it had.
        """
        if finished:
            self.finished(device)
        self._count(device, why)
        if (scorer := self._scorers.get(name)) is not None:
            scorer.reported = True
            scorer.back_until = self._now() + BACK_S if scorer.worked else 0.0
            scorer.aside = units if self._in_a_row[device] >= MOST_FAULTS - 1 else ()

    def blamed(self, name: str) -> bool:
        """Whether the end of a scorer that Ray does not start again was its device's fault."""
        scorer = self._scorers.pop(name, None)
        return scorer is not None and (self._ended(scorer) or scorer.reported)

    def news(self) -> list[str]:
        """What to print since the last question: a line for each device that was left out."""
        found, self._news = self._news, []
        return found

    def gone(self) -> str | None:
        """Why the run ends, when a scorer was told to refuse its units."""
        return self.none_left() if self._gone else None

    def none_left(self) -> str:
        """One sentence that names all devices that are left out."""
        named = "; ".join(f"{device}: {why}" for device, why in self._left_out.items())
        return (
            f"a device must be left that works; {MOST_FAULTS} scorers in a row failed on each of these: {named}. "
            "Mend or replace them (nvidia-smi and dmesg say more), and repeat the command: it goes on where it stopped"
        )

    def _somebody_comes_back(self) -> bool:
        return self._stream.scorers > 0 and any(other.back_until > self._now() for other in self._scorers.values())

    def _ended(self, scorer: _Scorer) -> bool:
        """Whether a process that ended without a word was loading the model; counts that."""
        while_loading = scorer.at_work and scorer.loading and not scorer.reported
        if while_loading:
            self._count(scorer.device, "its process ended while the model was loaded")
        return while_loading

    def _count(self, device: GpuPlace, why: str) -> None:
        self._in_a_row[device] += 1
        if self._in_a_row[device] >= MOST_FAULTS and device not in self._left_out:
            self._left_out[device] = why
            self._news.append(f"{device} is left out: {MOST_FAULTS} scorers in a row failed there, the last one because {why}")
