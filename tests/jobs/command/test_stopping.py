import os
import signal
import sys
import threading

import pytest

from jobs.command.stopping import Stopping


def test_sigterm_is_raised_once_and_the_handler_before_it_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stopping(lambda: 100.0) as stopping:
        assert not stopping.received
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.received
        os.kill(os.getpid(), signal.SIGTERM)  # what closes is not stopped in its midst
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_got_lost_may_be_sent_again(monkeypatch):
    """Python swallows what is raised while it deletes an object."""

    class Deleted:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    lost, now = [], [100.0]
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_type))
    with Stopping(lambda: now[0]):
        Deleted()
        assert lost == [KeyboardInterrupt]
        now[0] += 2.0
        os.kill(os.getpid(), signal.SIGTERM)  # the shell's, of the same stop
        now[0] += 0.1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_thread_sets_no_handler():
    entered = []

    def inside():
        with Stopping() as stopping:
            entered.append(stopping.received)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert entered == [False]
