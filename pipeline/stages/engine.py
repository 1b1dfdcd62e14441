"""Drives the stages of a run with Ray, which starts only when there is something to score."""

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.stages.cluster import Resources, start_ray
from pipeline.stages.config import StageConfig
from pipeline.storage.ahead import in_order
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

SLOW_IMPORTS = ("pandas", "pipeline.stages.commit")
"""Slow imports of stages/dataset.py outside Ray; two threads should not import modules of Ray at once."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class RayEngine:
    """Starts Ray when it is needed: a run that finds nothing to score neither starts it nor waits for its imports."""

    def __init__(self, address: str | None, resources: Resources, device: str) -> None:
        self._address, self._wanted, self._device = address, resources, device
        self._resources: Resources | None = None

    def start(self) -> Resources:
        """Connect once and print in one line how the cluster is shared; returns the resources with all fields set."""
        if self._resources is None:
            with ThreadPoolExecutor(1) as beside:  # a start mostly waits for Ray's processes
                imports = beside.submit(lambda: [importlib.import_module(name) for name in SLOW_IMPORTS])
                start_ray(self._address)
                imports.result()
            self._resources = self._wanted.resolved(self._device)
            print(self._resources.sentence(), flush=True)
        return self._resources

    def stream(self, items: list[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        """Run the items through read, score and commit: see pipeline.stages.dataset.stream."""
        resources = self.start()
        from pipeline.stages.dataset import stream

        return stream(items, config, resources)

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """The function's results in the order of jobs. Each job is a Ray task, at most one task per core at once; without Ray
        when nothing has started it."""
        if self._resources is None:
            yield from map(function, jobs)
            return
        import ray

        remote = ray.remote(function).options(num_cpus=1)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))

        def begin(job: Job) -> "ray.ObjectRef[Result]":
            return remote.remote(job)

        with _own_errors():
            yield from in_order(begin, jobs, lambda begun: ray.get(begun), at_once - 1)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raises a task's own error instead of Ray's, whose text adds two tracebacks."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise error.cause from error
