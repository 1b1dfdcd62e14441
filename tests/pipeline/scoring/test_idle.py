import pytest

from pipeline.scoring.idle import IdleClock


@pytest.fixture
def clock():
    """An IdleClock for two units at once, and what moves its time on."""
    time = [100.0]

    def go(seconds):
        time[0] += seconds

    return IdleClock(2, lambda: time[0]), go


def test_every_idle_second_has_one_cause(clock):
    idle, go = clock
    go(3)  # no unit has come yet
    with idle.unit() as first:
        with idle.loading():
            go(2)
        go(1)  # the first unit is being unpacked, but a second one would have been taken
        with idle.unit() as second:
            go(4)  # both are being unpacked
            with idle.computing():
                go(8)
            go(0.5)
        with idle.computing():
            go(16)
    assert second == {"load": 2, "wait": 4, "host": 4.5}
    assert first == {"load": 0, "wait": 0, "host": 0}, "what the second unit reported is not reported again"


def test_of_a_cpu_an_idle_thread_is_a_part_of_the_device(clock):
    idle, go = clock
    idle.set_capacity(4)
    with idle.unit() as unit:
        with idle.computing(), idle.computing(), idle.computing():
            go(4)
            with idle.computing(), idle.computing():
                go(1)  # one more than threads: what comes first is over in a moment
    assert unit == {"load": 0, "wait": 1, "host": 0}


def test_a_unit_that_fails_leaves_the_clock_as_it_should_be(clock):
    idle, go = clock
    with pytest.raises(ZeroDivisionError), idle.unit():
        with idle.computing():
            raise ZeroDivisionError
    go(1)
    with idle.unit() as unit:
        pass
    assert unit["wait"] == 1
