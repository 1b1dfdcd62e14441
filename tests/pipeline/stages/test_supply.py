import asyncio
import threading
import time

import pyarrow as pa
import pytest
import ray

from pipeline.stages import supply
from pipeline.stages.supply import Handover, Supply, feed, handfuls
from schemas.envelope import WorkItem, items_in
from schemas.outcome import Outcome


def test_few_items_are_spread_over_the_cores_and_many_are_taken_by_the_handful():
    items = [WorkItem(number, number * 3, 1) for number in range(1000)]
    found = list(handfuls(items, cores=2))
    assert [item for handful in found for item in handful] == items
    sizes = [len(handful) for handful in found]
    assert sizes[:8] == [1] * 8 and sizes[8:16] == [2] * 8 and set(sizes[56:-1]) == {supply.ITEMS_PER_TASK}


def test_the_handover_waits_for_news_and_gives_the_same_again():
    async def story():
        handover = Handover()
        waiting = asyncio.ensure_future(handover.take(0))
        await asyncio.sleep(0)
        assert not waiting.done()
        await handover.give(b"a")
        assert await waiting == [b"a"]
        await handover.give(b"b")
        assert await handover.take(1) == [b"b"]
        assert await handover.take(0) == [b"a", b"b"]  # a task that Ray runs again
        last = asyncio.ensure_future(handover.take(2))
        await asyncio.sleep(0)
        await handover.end()
        assert await last == []

    asyncio.run(story())


class Drawn:
    """Items that say how many were drawn."""

    def __init__(self, count):
        self.count, self.drawn, self.one = count, 0, threading.Condition()

    def __iter__(self):
        for number in range(self.count):
            with self.one:
                self.drawn += 1
                self.one.notify_all()
            yield WorkItem(number)

    def wait(self, drawn):
        with self.one:
            assert self.one.wait_for(lambda: self.drawn >= drawn, timeout=60)


def test_items_are_drawn_only_so_far_ahead_of_what_was_heard(ray_runs):
    items = Drawn(100)
    with Supply(items, cores=100, ahead=10) as given:
        tables = feed(pa.table({"feeds": [1]}), given.handover)
        items.wait(11)  # the eleventh waits for room
        fed = [item for _ in range(10) for item in items_in(next(tables))]
        assert fed == [WorkItem(number) for number in range(10)] and items.drawn == 11
        given.heard(Outcome(3, 0))
        given.heard(Outcome(3, 1))  # another part of the same stream makes no more room
        items.wait(12)
        assert list(items_in(next(tables))) == [WorkItem(10)]
        assert items.drawn == 12
        for number in range(100):
            given.heard(Outcome(number, 0))
            items.wait(min(100, number + 11))
        assert len(list(tables)) == 89
        given.finish()


def test_what_the_items_raise_is_raised_to_who_listens(ray_runs):
    def items():
        yield WorkItem(0)
        raise KeyError("the lease is gone")

    with Supply(items(), cores=1) as given:
        assert len(list(feed(pa.table({"feeds": [1]}), given.handover))) == 1
        with pytest.raises(KeyError, match="the lease is gone"):
            given.heard(Outcome(0, 0))


def test_a_supply_that_is_left_early_ends_its_thread_and_actor(ray_runs):
    with Supply(Drawn(1000), cores=0.25, ahead=100) as given:  # the thread waits for room in the middle of a handful
        assert ray.get(given.handover.take.remote(0))
    given._thread.join(timeout=60)
    assert not given._thread.is_alive()
    with pytest.raises(ray.exceptions.RayActorError):
        for _ in range(600):  # Ray kills it in its own time
            ray.get(given.handover.take.remote(0))
            time.sleep(0.1)
