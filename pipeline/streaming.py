"""The three stages as one Ray Data stream: work items in, commits' counts out, one unit a row all the way."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayTaskError

from pipeline.cluster import Resources, connect
from pipeline.commit_stage import commit
from pipeline.commits import WorkItem
from pipeline.read_stage import read_and_decode
from pipeline.score_stage import ScoreStage
from pipeline.stage_config import StageConfig

ITEMS_PER_TASK = 8

Job = TypeVar("Job")
Result = TypeVar("Result")


class RayEngine:
    """Ray when it is needed: a run that finds nothing to score never starts it."""

    def __init__(self, address: str | None, resources: Resources, device: str) -> None:
        self._address, self._wanted, self._device = address, resources, device
        self._resources: Resources | None = None

    def start(self) -> Resources:
        """Connect, once, and say in one line how the cluster is shared; returns what every stage gets, every field set."""
        if self._resources is None:
            connect(self._address)
            got = self._resources = self._wanted.resolved(self._device)
            print(
                f"scoring on {got.scorers} process(es) of {got.threads} thread(s), "
                f"{got.scorer_cpus:g} CPU and {got.scorer_gpus:g} GPU each",
                flush=True,
            )
        return self._resources

    def stream(self, items: list[WorkItem], config: StageConfig) -> Iterator[dict]:
        """Run the items through read, score and commit.

        Yields:
            One dict a finished unit, in no order: number, part, scored, errors, new, bytes_read, message.
        """
        resources = self.start()
        _configure()
        config = replace(config, threads=resources.threads)
        cpus = ray.cluster_resources().get("CPU", 1.0)
        per_task = max(1, min(ITEMS_PER_TASK, int(len(items) // (4 * cpus))))
        blocks = [_block(items[i : i + per_task]) for i in range(0, len(items), per_task)]
        whole = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
        units = (
            ray.data.from_blocks(blocks)
            .map_batches(read_and_decode, fn_kwargs={"config": config}, num_cpus=resources.read_cpus, **whole)
            .map_batches(
                ScoreStage,
                fn_constructor_kwargs={"config": config},
                compute=ActorPoolStrategy(
                    min_size=1,
                    max_size=resources.scorers,
                    initial_size=resources.scorers,
                    max_concurrent_calls_per_actor=ScoreStage.CALLS,
                    enable_true_multi_threading=True,
                ),
                num_cpus=resources.scorer_cpus,
                num_gpus=resources.scorer_gpus or None,
                **whole,
            )
            .map_batches(commit, fn_kwargs={"config": config}, num_cpus=resources.commit_cpus, **whole)
        )
        for batch in units.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from batch.to_pylist()

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """The function's results, in the jobs' order, each job a Ray task; at most one task a core is under way. Without Ray
        when it was not needed so far."""
        if self._resources is None:
            yield from map(function, jobs)
            return
        remote = ray.remote(function).options(num_cpus=1)
        ahead = max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[ray.ObjectRef] = deque()
        with _own_errors():
            for job in jobs:
                waiting.append(remote.remote(job))
                if len(waiting) >= ahead:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raises what was raised in a task instead of what Ray makes of it, which is that and two tracebacks in one text."""
    try:
        yield
    except RayTaskError as error:
        raise error.cause from error


def _configure() -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 1  # a block is given on as soon as it holds one row, that is, one unit
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    for handler in logging.getLogger("ray.data").handlers:  # its log file in Ray's session folder keeps everything
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def _block(items: list[WorkItem]) -> pa.Table:
    return pa.Table.from_pylist([vars(item) for item in items])
