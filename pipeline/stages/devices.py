"""The driver's side of what becomes of failing devices: an actor counts, the driver prints and ends the run."""

import logging
import time
from collections.abc import Collection
from typing import Any

import ray

from pipeline.stages.device_counts import DeviceCounts
from pipeline.stages.faults import DevicesFail
from pipeline.stages.place import Place
from pipeline.stages.supply import here
from schemas.outcome import Outcome

SAY_EVERY_S = 5.0

log = logging.getLogger(__name__)


class Devices:
    """The devices of a run, over all of its streams.

    Args:
        each: GPUs of one scorer, or the part of one.
    """

    def __init__(self, each: float) -> None:
        self._each = each
        actor = ray.remote(DeviceCounts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, label_selector=here())
        self._counts: Any = actor.remote(alive_nodes, ray.kill)
        self._said_at = 0.0

    def begin(self, scorers: int) -> Place:
        """A stream begins with so many scorers; what each of them gets. A lone worker begins no stream of scorers: 0."""
        return Place(self._counts, ray.get(self._counts.begin.remote(scorers)))

    def dismiss(self) -> None:
        """End the scorers of the stream."""
        ray.get(self._counts.dismiss.remote())

    def heard(self, outcome: Outcome) -> None:
        """Print what is new, at most every few seconds. Raises DevicesFail when a scorer says that no device is left."""
        if time.monotonic() - self._said_at > SAY_EVERY_S:
            self.say()
        if outcome.refused is not None and (why := ray.get(self._counts.gone.remote())) is not None:
            self.say()
            raise DevicesFail(why)

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
        if held * self._each + self._each > ray.cluster_resources().get("GPU", 0.0) + 1e-9:
            raise DevicesFail(ray.get(self._counts.none_left.remote()))


def alive_nodes() -> Collection[str]:
    """Ids of the nodes that are alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
