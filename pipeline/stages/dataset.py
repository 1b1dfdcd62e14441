"""The three stages as one Ray Data stream: work items in, commits' counts out, one unit a row all the way."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace

import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionOptions, ExecutionResources

from pipeline.stages.cluster import Resources
from pipeline.stages.commit import commit
from pipeline.stages.config import StageConfig
from pipeline.stages.read import read_and_decode
from pipeline.stages.score import ScoreStage
from schemas.envelope import WorkItem, item_table
from schemas.outcome import Outcome

ITEMS_PER_TASK = 8

WAITING_BYTES = 4 << 30
"""In the object store for each scorer: sixteen of the largest units. Ray Data gives about a third of it to decoded ones."""


def stream(items: list[WorkItem], config: StageConfig, resources: Resources) -> Iterator[Outcome]:
    """Run the items through read, score and commit. Every field of the resources is set.

    Yields:
        One outcome a finished unit, in no order.
    """
    assert resources.scorers is not None
    _configure(resources.scorers)
    config = replace(config, threads=resources.threads)
    cpus = ray.cluster_resources().get("CPU", 1.0)
    per_task = max(1, min(ITEMS_PER_TASK, int(len(items) // (4 * cpus))))
    blocks = [item_table(items[i : i + per_task]) for i in range(0, len(items), per_task)]
    whole = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    one = whole | {"batch_size": 1}  # a row, that is, a unit: beside GPUs Ray Data wants a number
    units = (
        ray.data.from_blocks(blocks)
        .map_batches(read_and_decode, fn_kwargs={"config": config}, num_cpus=resources.read_cpus, **whole)
        .map_batches(
            ScoreStage,
            fn_constructor_kwargs={"config": config},
            compute=scorer_pool(resources.scorers),
            num_cpus=resources.scorer_cpus,
            num_gpus=resources.scorer_gpus or None,
            **one,
        )
        .map_batches(commit, fn_kwargs={"config": config}, num_cpus=resources.commit_cpus, **whole)
    )
    for batch in units.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from Outcome.all_in(batch)


def scorer_pool(scorers: int) -> ActorPoolStrategy:
    """All scorers are asked for at once and none is given back before the end.

    Those that find no place wait, which is what a cluster's autoscaler acts on, and the others score meanwhile. A pool that
    Ray Data may shrink loses its loaded models whenever reading is slower for a moment, and one that is to grow does so only
    within the resources that are there already.

    A scorer has as many units waiting as it works on, so that it never waits for the driver to hand it the next.
    """
    return ActorPoolStrategy(
        size=scorers,
        max_tasks_in_flight_per_actor=2 * ScoreStage.CALLS,
        max_concurrent_calls_per_actor=ScoreStage.CALLS,
        enable_true_multi_threading=True,
    )


def _configure(scorers: int) -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 1  # a block is given on as soon as it holds one row, that is, one unit
    context.enable_progress_bars = False
    # Without a limit it is half of all object stores, which on a large machine is far more than keeps a scorer busy.
    waiting = ExecutionResources.for_limits(object_store_memory=WAITING_BYTES * scorers)
    context.execution_options = ExecutionOptions(resource_limits=waiting, preserve_order=False)
    # Half an hour without a finished unit would end the run: a node may take longer to come, as may a unit of hanging images.
    context.execution_no_progress_timeout_s = -1
    # How many units there are is known when tar streams have been read; scorers that get none cost a start.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
    for handler in logging.getLogger("ray.data").handlers:  # its log file in Ray's session folder keeps everything
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
