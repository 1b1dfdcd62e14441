"""Drives the stages of a run with Ray, which starts only when there is something to score."""

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pipeline.input.config import SourceConfig
from pipeline.stages.cluster import Resources, start_ray
from pipeline.stages.cluster_address import cluster_address
from pipeline.stages.config import StageConfig
from pipeline.stages.faults import LOOK, ScorerRefuses, WorkersDie
from pipeline.state.ledger import Ledger
from pipeline.storage.ahead import in_order
from pipeline.storage.objects import StorageError
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

if TYPE_CHECKING:
    from pipeline.input.listing_file import ListingFile
    from pipeline.stages.devices import Devices
    from pipeline.stages.joining.nodes import Nodes

SLOW_IMPORTS = ("pandas", "pipeline.stages.commit")
"""Slow imports of stages/dataset.py outside Ray; two threads should not import modules of Ray at once."""

LOOK_EVERY_S = 10.0
"""How often a run looks for new nodes. One that does not see a folder makes `gone` of its images, and leaves no unit open."""

GIB = 1 << 30

Job = TypeVar("Job")
Result = TypeVar("Result")


class RayEngine:
    """Starts Ray on this machine when it is needed: a run that finds nothing to score neither starts it nor waits for its
    imports. A cluster is joined by `join`, before anything is planned, since only its nodes can say what they reach."""

    def __init__(self, address: str | None, resources: Resources, device: str) -> None:
        self._address, self._wanted, self._device = address, resources, device
        self._resources: Resources | None = None
        self._devices: Devices | None = None
        self._nodes: Nodes | None = None

    def join(self, source: SourceConfig, ledger: Ledger, listing: "ListingFile | None" = None) -> None:
        """Join the cluster, if there is one to join, and have its nodes try what they will need.

        Workers of a Ray on this machine are children of this process: they have its environment, user and disks.

        Args:
            listing: what the input holds, if a file says it; then nodes need no right to list it.
        Raises:
            NoCluster: it cannot be joined.  NodeLacks: a node cannot do what the driver can.
        """
        if cluster_address(self._address) is None:
            return
        from pipeline.stages.joining.nodes import Nodes

        start_ray(self._address)
        self._nodes = Nodes(source, ledger.output_uri, ledger.prefix, listing)
        self._nodes.check()

    def start(self) -> Resources:
        """Connect once and print in one line how the cluster is shared; returns the resources with all fields set."""
        if self._resources is None:
            with ThreadPoolExecutor(1) as beside:  # a start mostly waits for Ray's processes
                imports = beside.submit(lambda: [importlib.import_module(name) for name in SLOW_IMPORTS])
                start_ray(self._address)
                imports.result()
            self._resources = self._wanted.resolved(self._device)
            print(self._resources.sentence(), flush=True)
            if self._resources.scorer_gpus:
                from pipeline.stages.devices import Devices

                self._devices = Devices(self._resources)
        return self._resources

    def stream(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        """Run the items through read, score and commit: see pipeline.stages.dataset.stream."""
        resources = self.start()
        from pipeline.stages.dataset import stream

        return self._unless_refused(stream(items, resources.given(config), resources, self._devices))

    def alone(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        """Run items that ended their workers one at a time: see pipeline.stages.alone."""
        resources = self.start()
        from pipeline.stages.alone import score_alone

        return self._unless_refused(score_alone(items, resources.given(config), resources, self._devices))

    def _unless_refused(self, outcomes: Generator[Outcome, None, None]) -> Generator[Outcome, None, None]:
        """The outcomes up to the first of a scorer that cannot go on, or to the first after a node has come that cannot reach
        storage: an autoscaler brings nodes while a run is under way.

        Raises:
            ScorerRefuses: what would be scored meanwhile on the wrong device takes days, or gives other scores.  NodeLacks.
        """
        looked = -math.inf  # nodes may have come since the last stream
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if outcome.refused is not None:
                    raise ScorerRefuses(outcome.refused)
                if self._nodes is not None and (outcome.message is not None or time.monotonic() - looked >= LOOK_EVERY_S):
                    self._nodes.check(later=True)
                    looked = time.monotonic()
                yield outcome

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job], memory_bytes: int = 0) -> Iterator[Result]:
        """The function's results in the order of jobs. Each job is a Ray task, at most one task per core at once; without Ray
        when nothing has started it.

        Args:
            memory_bytes: what a task needs, 0 if that is little: a node runs only as many at once as it has memory for. If
                that is more than any node has, one line says so, and each task gets a node's memory for itself.
        """
        if self._resources is None:
            yield from map(function, jobs)
            return
        import ray

        remote = ray.remote(function).options(num_cpus=1, memory=_what_fits(memory_bytes) or None)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))

        def begin(job: Job) -> "ray.ObjectRef[Result]":
            return remote.remote(job)

        try:
            with _own_errors():
                yield from in_order(begin, jobs, lambda begun: ray.get(begun), at_once - 1)
        except StorageError:
            if self._nodes is not None:
                self._nodes.check(later=True)  # a node that has come since the run began may be why, and then it is named
            raise


def _what_fits(memory_bytes: int) -> int:
    """The memory to ask Ray for: it would wait for ever for more than the largest node has. Where no node has a core yet, an
    autoscaler brings what is asked for."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((int(node.get("memory", 0)) for node in nodes if node.get("CPU", 0) >= 1), default=memory_bytes)
    if memory_bytes <= largest:
        return memory_bytes
    print(
        f"a task needs {memory_bytes / GIB:.1f} GiB of memory, and the largest node has {largest / GIB:.1f} GiB "
        "for Ray's tasks: each runs alone on a node",
        flush=True,
    )
    return largest


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raises a task's own error instead of Ray's, whose text adds two tracebacks; WorkersDie when it has none."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise WorkersDie(f"a worker must survive its task; {type(error).__name__} again and again. {LOOK}") from error
