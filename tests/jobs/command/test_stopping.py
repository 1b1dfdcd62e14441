import os
import signal
import threading

import pytest

from jobs.command.stopping import Stopping


def test_sigterm_is_raised_once_and_the_handler_before_it_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stopping() as stopping:
        assert not stopping.received
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.received
        os.kill(os.getpid(), signal.SIGTERM)  # what closes is not stopped in its midst
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_sets_no_handler():
    entered = []

    def inside():
        with Stopping() as stopping:
            entered.append(stopping.received)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert entered == [False]
