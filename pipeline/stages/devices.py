"""The driver's side of what becomes of failing devices: an actor counts, the driver prints and ends the run."""

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any

import ray

from pipeline.stages.cluster import Resources, scorers_on
from pipeline.stages.device_counts import NO_STREAM, DeviceCounts, Stream
from pipeline.stages.faults import DevicesFail
from pipeline.stages.place import Place
from pipeline.stages.supply import here
from schemas.outcome import Outcome

SAY_EVERY_S = 5.0

log = logging.getLogger(__name__)


class Devices:
    """The devices of a run, over all of its streams.

    Args:
        resources: of scorers on GPUs, with every field set.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        actor = ray.remote(DeviceCounts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, label_selector=here())
        self._counts: Any = actor.remote(alive_nodes, ray.kill)
        self._said_at = 0.0
        self._stream = NO_STREAM  # it is numbered here, since the actor forgets all when Ray starts it again

    def begin(self, scorers: int) -> Place:
        """A stream begins with so many scorers; what each of them gets. A lone worker begins no stream of scorers: 0."""
        self._stream = Stream(self._stream.number + 1, scorers)
        ray.get(self._counts.begin.remote(self._stream))
        return Place(self._counts, self._stream)

    def dismiss(self) -> None:
        """End the scorers of the stream."""
        later = Stream(self._stream.number + 1, 0)
        ray.get(self._counts.dismiss.remote(later))
        self._stream = later

    def heard(self, outcome: Outcome) -> None:
        """Print what is new, at most every few seconds. Raises DevicesFail when a scorer says that no device is left."""
        if time.monotonic() - self._said_at > SAY_EVERY_S:
            self.say()
        if outcome.refused is not None and (why := ray.get(self._counts.gone.remote())) is not None:
            self.say()
            raise DevicesFail(why + untried(self._stream.scorers, places(ray.nodes(), self._resources)))

    def say(self) -> None:
        """Print what is new, one line for each device that is left out."""
        self._said_at = time.monotonic()
        for line in ray.get(self._counts.news.remote()):
            log.warning("%s", line)

    def blamed(self, name: str) -> bool:
        """Whether the device is at fault that a lone worker ended. Call it once for each."""
        found = bool(ray.get(self._counts.blamed.remote(name)))
        self.say()
        return found

    def check_left(self, held: int) -> None:
        """Raises DevicesFail when so many workers hold all places of the cluster, each on a device that is left out."""
        self.say()
        if held >= places(ray.nodes(), self._resources):
            raise DevicesFail(ray.get(self._counts.none_left.remote()))


def places(nodes: Iterable[dict[str, Any]], resources: Resources) -> int:
    """How many scorers find a place on these nodes, as Ray describes them. Neither a share of a GPU nor a scorer with several
    GPUs lies on two nodes, and each has its cores."""
    assert resources.scorer_gpus and resources.scorer_cpus
    found = 0
    for node in nodes:
        has = node["Resources"] if node["Alive"] else {}
        on_gpus = scorers_on(has.get("GPU", 0.0), resources.scorer_gpus)
        found += min(on_gpus, int(has.get("CPU", 0.0) / resources.scorer_cpus + 1e-9))
    return found


def untried(scorers: int, found: int) -> str:
    """What to add to the end of a run of so many scorers, on a cluster with so many places for them."""
    if scorers >= found:
        return ""
    return f". Other GPUs were not tried: resources.scorers must be {found} to use all of them; got {scorers}"


def alive_nodes() -> Collection[str]:
    """Ids of the nodes that are alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
