from ray.data import DataContext

from pipeline.stages import dataset, supply
from pipeline.stages.score import ScoreStage


def test_all_scorers_are_asked_for_at_once_and_kept():
    pool = dataset.scorer_pool(8)
    assert (pool.min_size, pool.initial_size, pool.max_size) == (8, 8, 8)
    assert pool.max_concurrent_calls_per_actor == ScoreStage.CALLS
    assert pool.max_tasks_in_flight_per_actor > ScoreStage.CALLS


def test_what_waits_is_bounded_in_bytes_and_slow_work_is_not_ended():
    with DataContext.current(DataContext.get_current().copy()):
        dataset._configure(scorers=3)
        context = DataContext.get_current()
        limits = context.execution_options.resource_limits
        assert limits.object_store_memory == 3 * dataset.WAITING_BYTES
        assert limits.cpu == limits.gpu == float("inf")
        assert context.target_max_block_size == 1
        assert context.execution_no_progress_timeout_s == -1
        assert context.max_errored_blocks * supply.ITEMS_PER_TASK < supply.AHEAD_ITEMS, "else the supply waits for lost items"
