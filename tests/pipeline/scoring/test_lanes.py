import contextlib
import threading
import time

import numpy as np
import pytest
import torch
from at_once import AtOnce

from models.detector import Scored
from pipeline.scoring.faults import DeviceFault
from pipeline.scoring.idle import IdleClock
from pipeline.scoring.lanes import ClockEvent, Lanes
from pipeline.scoring.watchdog import Watchdog

SHAPE = (4, 2, 2, 3)


def means(images):
    cells = images.float().mean(3)  # (B, 2, 2)
    return Scored(cells.mean((1, 2)), cells, torch.zeros(len(images), 32, dtype=torch.float16))


def batch(*levels):
    return np.repeat(np.array(levels, np.uint8), 12).reshape(-1, 2, 2, 3)


def submitted(lanes, pixels):
    return lanes.submit(pixels, lambda given, scores: (given, scores))


@pytest.fixture(params=[False, True], ids=["threads", "in_turn"])
def in_turn(request):
    """Both ways on a CPU: with pixels and results copied and one batch computed at a time, as on a GPU, and without."""
    return request.param


@pytest.mark.parametrize("count", [1, 3])
def test_batches_come_back_as_themselves(count, in_turn):
    lanes = Lanes(means, SHAPE, "cpu", count, in_turn, IdleClock(1))
    given = [batch(i, i + 1, i + 2, 100)[: 1 + i % 4] for i in range(40)]
    futures = [submitted(lanes, pixels) for pixels in given]
    for pixels, future in zip(given, futures, strict=True):
        same, scores = future.result()
        assert same is pixels
        assert scores.score.tolist() == pixels[:, 0, 0, 0].tolist()
        assert scores.anomaly_map.shape == (len(pixels), 2, 2) and scores.embedding.shape == (len(pixels), 32)
        assert scores.compute_s > 0 and scores.copy_s > 0


def test_slots_without_an_image_are_blank_whatever_was_in_them(in_turn):
    seen = []

    def look(images):
        seen.append(images.clone())
        return means(images)

    lanes = Lanes(look, SHAPE, "cpu", 1, in_turn, IdleClock(1))
    submitted(lanes, batch(9, 9, 9, 9)).result()
    submitted(lanes, batch(7)).result()
    assert seen[1][0].unique().tolist() == [7] and not seen[1][1:].any()


def test_results_stay_when_the_lane_is_used_again(in_turn):
    """Also of a computation that answers in memory of its own, as a CUDA graph does."""
    memory = Scored(torch.zeros(4), torch.zeros(4, 2, 2), torch.zeros(4, 32, dtype=torch.float16))

    def overwrite(images):
        for target, part in zip(memory, means(images), strict=True):
            target.copy_(part)
        return memory

    lanes = Lanes(overwrite, SHAPE, "cpu", 1 + 2 * in_turn, in_turn, IdleClock(1))
    futures = [submitted(lanes, batch(i, i + 1)) for i in range(20)]
    assert [future.result()[1].score.tolist() for future in futures] == [[i, i + 1] for i in range(20)]


def test_lanes_of_a_cpu_compute_at_once():
    both = threading.Barrier(2, timeout=20)

    def meet(images):
        both.wait()
        return means(images)

    lanes = Lanes(meet, SHAPE, "cpu", 2, False, IdleClock(1))
    futures = [submitted(lanes, batch(i)) for i in range(2)]
    assert [future.result()[1].score[0] for future in futures] == [0, 1]


def test_lanes_in_turn_do_not():
    inside, most = [], []

    def look(images):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return means(images)

    lanes = Lanes(look, SHAPE, "cpu", 3, True, IdleClock(1))
    assert all(future.result() for future in [submitted(lanes, batch(i)) for i in range(12)])
    assert set(most) == {1}


def test_what_follows_a_batch_can_take_a_turn_of_its_own():
    """As an explanation does, whose passes would else run beside another lane's batch."""
    alone = AtOnce()

    def look(images):
        alone()
        return means(images)

    lanes = Lanes(look, SHAPE, "cpu", 3, True, IdleClock(1))

    def then(_pixels, _scores):
        with lanes.turn():
            alone()

    for future in [lanes.submit(batch(i), then) for i in range(9)]:
        future.result()
    assert len(alone.most) == 18 and set(alone.most) == {1}


def test_a_batch_that_fails_gives_its_lane_back(in_turn):
    def refuse(images):
        if images.max() == 13:
            raise RuntimeError("no kernel image")
        return means(images)

    lanes = Lanes(refuse, SHAPE, "cpu", 1, in_turn, IdleClock(1))
    with pytest.raises(RuntimeError, match="no kernel image"):
        submitted(lanes, batch(13)).result()
    assert submitted(lanes, batch(5)).result()[1].score.tolist() == [5]


def test_lack_of_memory_is_tried_once_more_with_the_whole_batch(in_turn):
    sizes = []

    def compute(images):
        sizes.append(len(images))
        if len(sizes) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return means(images)

    lanes = Lanes(compute, SHAPE, "cpu", 1, in_turn, IdleClock(1))
    assert submitted(lanes, batch(5, 6)).result()[1].score.tolist() == [5, 6]
    assert sizes == [SHAPE[0]] * 2


def test_a_fault_of_the_device_names_device_and_batch(in_turn):
    def compute(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    lanes = Lanes(compute, SHAPE, "cpu", 1, in_turn, IdleClock(1))
    with pytest.raises(DeviceFault, match="^cpu has too little memory: a batch of 4 images of 2 x 2 pixels"):
        submitted(lanes, batch(5)).result()


def test_what_follows_a_batch_may_meet_a_fault_too(in_turn):
    def follow(pixels, scores):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    lanes = Lanes(means, SHAPE, "cpu", 1, in_turn, IdleClock(1))
    with pytest.raises(DeviceFault, match="at what follows a batch of 4 images .* illegal memory access"):
        lanes.submit(batch(5), follow).result()


def test_a_batch_that_hangs_is_noticed(in_turn, monkeypatch):
    hung, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("pipeline.scoring.lanes.BATCH_S", 0.05)

    def wait(images):
        assert ended.wait(60)
        return means(images)

    lanes = Lanes(wait, SHAPE, "cpu", 1, in_turn, IdleClock(1), Watchdog(lambda sentence: hung.set(), look_every_s=0.01))
    future = submitted(lanes, batch(5))
    assert hung.wait(60)
    ended.set()
    assert future.result()[1].score.tolist() == [5]


def test_a_hang_in_a_turn_of_a_caller_is_noticed(in_turn, monkeypatch):
    hung, ended, said = threading.Event(), threading.Event(), []
    monkeypatch.setattr("pipeline.scoring.lanes.LONG_S", 0.05)
    watch = Watchdog(lambda sentence: (said.append(sentence), hung.set()), look_every_s=0.01)
    lanes = Lanes(means, SHAPE, "cpu", 1, in_turn, IdleClock(1), watch)

    def wait(_pixels, _scores):
        with lanes.turn():
            return ended.wait(60)

    future = lanes.submit(batch(5), wait)
    assert hung.wait(60)
    ended.set()
    assert future.result() and "what follows a batch of 4 images" in said[0]


class Open:
    """In place of a watchdog: what is watched now."""

    def __init__(self):
        self.now = []

    @contextlib.contextmanager
    def over(self, work, limit_s):
        self.now.append(work)
        yield
        self.now.remove(work)


BATCH, AFTER = "a batch of 4 images of 2 x 2 pixels", "what follows a batch of 4 images of 2 x 2 pixels"


def test_a_batch_that_waits_for_its_turn_is_not_watched():
    """Explanations may hold the turn for longer than a batch may take."""
    watch, begun, second = Open(), [], threading.Event()

    class Computing(IdleClock):
        def computing(self):
            begun.append(1)
            if len(begun) == 2:  # the second batch waits for the turn from here on
                second.set()
            return super().computing()

    lanes, batches = Lanes(means, SHAPE, "cpu", 3, True, Computing(1), watch), []

    def explain(_pixels, _scores):
        with lanes.turn():
            batches.append(submitted(lanes, batch(7)))
            assert second.wait(60)
            return list(watch.now)

    assert lanes.submit(batch(5), explain).result() == [AFTER]
    assert batches[0].result()[1].score.tolist() == [7]
    assert watch.now == []


def test_what_waits_for_a_turn_is_not_watched():
    watch, both = Open(), threading.Barrier(2, timeout=60)

    def explain(_pixels, _scores):
        both.wait()
        with lanes.turn():
            return list(watch.now)

    lanes = Lanes(means, SHAPE, "cpu", 3, True, IdleClock(1), watch)
    assert [future.result() for future in [lanes.submit(batch(i), explain) for i in range(2)]] == [[AFTER]] * 2


def test_a_batch_is_watched_until_its_results_are_there(in_turn, monkeypatch):
    watch, seen = Open(), []
    monkeypatch.setattr(ClockEvent, "synchronize", lambda event: seen.append(list(watch.now)))

    def look(images):
        seen.append(list(watch.now))
        return means(images)

    lanes = Lanes(look, SHAPE, "cpu", 1, in_turn, IdleClock(1), watch)
    submitted(lanes, batch(5)).result()
    assert seen == [[BATCH], [BATCH]] and watch.now == []


def test_an_event_of_a_cpu_is_a_moment():
    earlier, later = ClockEvent(), ClockEvent()
    for event in (earlier, later):
        event.record(None)
        event.synchronize()
    assert earlier.elapsed_time(later) >= 0 >= later.elapsed_time(earlier)
