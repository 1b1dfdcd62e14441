import json
import subprocess
import sys

import psutil
import pytest

from pipeline.state import lease as module
from pipeline.state.lease import Lease, LeaseHeld, LeaseLost
from pipeline.state.run_state import RunState
from pipeline.storage.objects import Denied


@pytest.fixture
def state(tmp_path):
    return RunState(str(tmp_path), "run")


def other_holder(state, epoch, beat=7):
    holder = {"host": "elsewhere", "boot": "b", "pid": 1, "started": 0.0}
    assert state.store.put_new(f"{state.prefix}/lease/{epoch:06d}.json", json.dumps(holder).encode())
    state.store.put(f"{state.prefix}/lease/{epoch:06d}.beat", str(beat).encode())


def while_it_beats(state):
    """How a second driver waits for a first one that lives."""
    beats = iter(range(100, 200))
    return lambda seconds: state.store.put(f"{state.prefix}/lease/000001.beat", str(next(beats)).encode())


def test_a_finished_holder_gives_way_at_once(state):
    with Lease(state) as first:
        assert first.epoch == 1
    with Lease(state) as second:
        assert second.epoch == 2


def test_a_second_driver_on_this_host_is_refused_while_the_first_lives(state):
    with Lease(state):
        with pytest.raises(LeaseHeld, match="driven by another process"):
            with Lease(state, while_it_beats(state)):
                pass


def test_a_holder_on_this_host_does_not_seem_dead_when_the_clock_is_set(state, monkeypatch):
    with Lease(state):
        started = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 3600)
        with pytest.raises(LeaseHeld):
            Lease(state, while_it_beats(state)).__enter__()


def test_a_last_beat_that_storage_refuses_hides_no_error(state, monkeypatch):
    def refuse(key, body):
        raise Denied("refused")

    with pytest.raises(LookupError), Lease(state):
        monkeypatch.setattr(state.store, "put", refuse)
        raise LookupError


def test_a_dead_process_of_this_host_gives_way_without_waiting(state, monkeypatch):
    code = f"""
import os
from pipeline.state.lease import Lease
from pipeline.state.run_state import RunState
Lease(RunState({state.output_uri!r}, "run")).__enter__()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)

    def no_wait(seconds):
        raise AssertionError("waited for a dead process")

    with Lease(state, no_wait) as taken:
        assert taken.epoch == 2


def test_a_silent_holder_elsewhere_is_overtaken_after_the_stale_time(state):
    other_holder(state, 1)
    waited = []
    with Lease(state, waited.append) as taken:
        assert taken.epoch == 2
    assert sum(waited) == module.STALE_S


def test_a_holder_that_was_overtaken_stops(state):
    with Lease(state) as held:
        held.check()
        other_holder(state, 2)
        with pytest.raises(LeaseLost):
            held.check()
