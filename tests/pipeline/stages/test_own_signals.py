import os
import signal
import sys

import pytest

from pipeline.stages.own_signals import own_sigterm


@pytest.fixture
def own():
    """The numbers that a handler of this program's own gets."""
    taken = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: taken.append(number))
    yield taken
    signal.signal(signal.SIGTERM, before)


def ray_starts():
    """As ray.init does it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))


def test_the_own_handler_is_there_again_after_the_start(own):
    with own_sigterm():
        ray_starts()
    os.kill(os.getpid(), signal.SIGTERM)
    assert own == [signal.SIGTERM]


def test_a_signal_during_the_start_goes_to_the_own_handler(own):
    with pytest.raises(SystemExit), own_sigterm():
        ray_starts()
        os.kill(os.getpid(), signal.SIGTERM)
    assert own == [signal.SIGTERM]


def test_another_exit_stays_what_it_is(own):
    with pytest.raises(SystemExit), own_sigterm():
        sys.exit(1)  # Ray's core ends the process so where a head does not answer
    assert own == []


def test_a_program_without_a_handler_keeps_rays():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with own_sigterm():
            ray_starts()
        assert callable(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
