"""Several drivers work on one run by mistake, and a driver that was thought dead comes back."""

import os
import signal
import time

import pytest
from fault_proxy import Fault

DONE, PARTIAL = 0, 5


def wait_for(proxy, said):
    """Wait until a request has passed for which `said` is true."""
    for _ in range(1200):
        if any(said(request) for request in proxy.passed):
            return
        time.sleep(0.05)
    raise AssertionError("the driver did not get so far within a minute")


def is_commit(request):
    return "/commits/" in request.key and request.method == "PUT"


@pytest.mark.slow
@pytest.mark.parametrize("apart_s", [0.0, 1.0])
def test_of_two_drivers_one_wins_and_the_other_says_so(laboratory, apart_s):
    """Late answers make the run long enough for the other driver to see that the run is driven."""
    output = f"{laboratory.bucket}/two-drivers-{apart_s}"
    laboratory.proxy.arm(Fault("delay", 0, times=10**9))
    first = laboratory.start("first", output, "one")
    time.sleep(apart_s)
    second = laboratory.start("first", output, "other")
    codes = {first.wait(): first, second.wait(): second}
    logs = f"{first.log.read_text()}\n{second.log.read_text()}"
    assert set(codes) == {DONE, PARTIAL}, logs
    assert "is driven by another process" in codes[PARTIAL].log.read_text()
    assert laboratory.wrong("first", output) == []


@pytest.mark.slow
def test_a_driver_thought_dead_comes_back_and_harms_nothing(laboratory):
    """The second driver sees a host other than its own, so it must wait until the first one's heartbeat is stale."""
    output = f"{laboratory.bucket}/back-again"
    laboratory.proxy.arm()
    first = laboratory.start("first", output, "sleeper", host="elsewhere")
    wait_for(laboratory.proxy, is_commit)
    os.kill(first.pid, signal.SIGSTOP)
    second = laboratory.start("first", output, "successor")
    assert second.wait() == DONE, second.log.read_text()
    assert laboratory.wrong("first", output) == []
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait() == PARTIAL, first.log.read_text()
    assert "taken over by another driver" in first.log.read_text()
    assert laboratory.wrong("first", output) == []
