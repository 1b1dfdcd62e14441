"""Runs the three stages as one Ray Data stream from work items to outcomes; a row is always one unit."""

import contextlib
import logging
import warnings
from collections.abc import Generator, Iterable

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionOptions, ExecutionResources
from ray.exceptions import RayError, RayTaskError

from pipeline.stages.cluster import Resources
from pipeline.stages.commit import commit
from pipeline.stages.config import StageConfig
from pipeline.stages.devices import Devices
from pipeline.stages.faults import LOOK, SetAside, WorkersDie
from pipeline.stages.ray_output import WithoutKnown
from pipeline.stages.read import read_and_decode
from pipeline.stages.score import ScoreStage
from pipeline.stages.supply import Supply, feed, here
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

WAITING_BYTES = (16 << 30) // 3
"""Object store per scorer. Ray Data gives each of the four stages about a quarter: five of the largest units can wait decoded.
The feed uses nothing of its own quarter, so that 4 GiB are taken at most."""

RETRIES = 3
"""Of a task whose worker or node died; by default Ray repeats it for ever. For lack of memory: see cluster.start_ray."""

LOST_TASKS = 100
"""So many tasks may fail for good before the stream ends. Far fewer items than AHEAD_ITEMS: the supply never waits for them."""


def stream(
    items: Iterable[WorkItem], config: StageConfig, resources: Resources, devices: Devices | None = None
) -> Generator[Outcome, None, None]:
    """Run the items through read, score and commit, with one pool of scorers. Every field of the resources must be set.

    Args:
        items: drawn by a thread of its own, at most `supply.AHEAD_ITEMS` ahead of their outcomes. What they raise is
            raised here, at the next outcome.
        config: with what scorers have, as `Resources.given` says.
        devices: counts the faults of GPUs; None where scorers have none.
    Yields:
        One outcome per finished unit, in any order. A unit that ended its worker RETRIES + 1 times has none, and neither have
        those that were in the same task or waited in the same scorer, also when their device was left out.
    Raises:
        WorkersDie: more than LOST_TASKS tasks ended that way.  DevicesFail: no device is left.
    """
    assert resources.scorers is not None
    _configure(resources.scorers)
    supply = Supply(items, ray.cluster_resources().get("CPU", 1.0))
    with supply, contextlib.closing(_outcomes(supply, config, resources, devices)) as outcomes:
        try:
            for outcome in outcomes:
                supply.heard(outcome)
                if devices is not None:
                    devices.heard(outcome)
                yield outcome
        except RayTaskError as error:
            if not isinstance(error.cause, SetAside):
                raise
            raise WorkersDie(f"workers must survive; more than {LOST_TASKS} tasks of one run ended theirs. {LOOK}") from error
        except RayError as error:
            raise WorkersDie(f"workers must survive; more than {LOST_TASKS} tasks of one run ended theirs. {LOOK}") from error
        if devices is not None:
            devices.say()
        supply.finish()
        if not supply.given:
            raise WorkersDie(f"the task that hands out the work units must survive; it did not. {LOOK}")


def _outcomes(
    supply: Supply, config: StageConfig, resources: Resources, devices: Devices | None
) -> Generator[Outcome, None, None]:
    assert resources.scorers is not None
    place = {} if devices is None else {"place": devices.begin(resources.scorers)}
    whole = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    one = whole | {"batch_size": 1}  # one row, which is one unit: with GPUs Ray Data requires a number
    units = (
        ray.data.from_blocks([pa.table({"feeds": [1]})])
        .map_batches(feed, fn_kwargs={"handover": supply.handover}, num_cpus=0, label_selector=here(), **whole)
        .map_batches(read_and_decode, fn_kwargs={"config": config}, num_cpus=resources.read_cpus, max_retries=RETRIES, **whole)
        .map_batches(
            ScoreStage,
            fn_constructor_kwargs={"config": config, **place},
            compute=scorer_pool(resources.scorers),
            num_cpus=resources.scorer_cpus,
            num_gpus=resources.scorer_gpus or None,
            max_task_retries=RETRIES,
            **one,
        )
        .map_batches(commit, fn_kwargs={"config": config}, num_cpus=resources.commit_cpus, max_retries=RETRIES, **whole)
    )
    try:
        with WithoutKnown(resources.scorers) as known:
            for batch in units.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                known.give_back()  # all scorers are created, of which Ray's core says its line
                yield from Outcome.all_in(batch)
    finally:
        if devices is not None:
            devices.dismiss()


def scorer_pool(scorers: int) -> ActorPoolStrategy:
    """Asks for all scorers at once and gives none back before the end.

    Scorers that find no place wait, which makes a cluster's autoscaler act, and the others score meanwhile. A pool that
    Ray Data may shrink loses its loaded models whenever reading slows down for a moment, and a growing one only
    uses resources that are there already.

    As many units wait at a scorer as it works on, so that it never waits for the driver to hand it the next.
    """
    return ActorPoolStrategy(
        size=scorers,
        max_tasks_in_flight_per_actor=2 * ScoreStage.CALLS,
        max_concurrent_calls_per_actor=ScoreStage.CALLS,
        enable_true_multi_threading=True,
    )


def _configure(scorers: int) -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 1  # passes a block on as soon as it holds one row, which is one unit
    context.enable_progress_bars = False
    # The default is half of all object stores: on a large machine far more than keeps a scorer busy.
    waiting = ExecutionResources.for_limits(object_store_memory=WAITING_BYTES * scorers)
    context.execution_options = ExecutionOptions(resource_limits=waiting, preserve_order=False)
    # By default half an hour without a finished unit ends the run; a new node or a unit of hanging images may take longer.
    context.execution_no_progress_timeout_s = -1
    # What a lost task held stays open; the run scores it alone, which finds the image at fault or raises the error again.
    context.max_errored_blocks = LOST_TASKS
    # The number of units is only known after tar streams are read; a scorer that gets none costs just its start.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
    # Ray Data has no named parameter for retries yet.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", category=DeprecationWarning)
    for handler in logging.getLogger("ray.data").handlers:  # its log file in Ray's session folder still has everything
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)
