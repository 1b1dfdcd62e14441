import threading

import pytest

from pipeline.storage.ahead import ahead, in_order, threads_ahead


@pytest.mark.parametrize("count", [1, 3])
def test_everything_comes_in_order_and_within_the_bound(count):
    made, taken, most = [], [], 0
    lock = threading.Lock()

    def items():
        for number in range(20):
            with lock:
                made.append(number)
            yield number

    for item in ahead(items(), count):
        taken.append(item)
        most = max(most, len(made) - len(taken))
    assert taken == list(range(20)) and most <= count


def test_the_next_one_is_made_while_one_is_worked_on():
    begun = threading.Event()

    def items():
        yield 0
        begun.set()
        yield 1

    for item in ahead(items(), 1):
        assert item == 1 or begun.wait(20)


def test_errors_come_in_their_place():
    def items():
        yield 0
        raise OSError("no memory")

    found = ahead(items(), 1)
    assert next(found) == 0
    with pytest.raises(OSError, match="no memory"):
        next(found)


def test_what_is_given_up_ends():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    source = items()
    found = ahead(source, 2)
    assert next(found) == 0
    found.close()
    source.close()
    assert closed


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_results_come_in_order_and_so_many_are_under_way(count):
    begun, ended = [], []

    def begin(item):
        begun.append(item)
        return -item

    def end(work):
        ended.append(-work)
        return -work

    for position, item in enumerate(in_order(begin, range(10), end, count)):
        assert item == position == ended[-1]
        assert len(begun) == min(10, position + count + 1)
    assert ended == list(range(10))


def test_threads_work_at_once_and_an_error_comes_in_its_place():
    together = threading.Barrier(3)

    def work(item):
        if item < 3:
            together.wait(20)
        if item == 4:
            raise ValueError(item)
        return item

    results = threads_ahead(work, range(9), 3)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4"):
        next(results)
