import json
import subprocess
import sys

import psutil
import pytest

from pipeline.state import lease as module
from pipeline.state.lease import Lease, LeaseHeld, LeaseLost, beat_key, epochs
from pipeline.state.ledger import Ledger
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Denied


@pytest.fixture
def ledger(tmp_path):
    return Ledger(str(tmp_path), "tiles")


def other_holder(ledger, epoch, beat=7):
    holder = {"host": "elsewhere", "boot": "b", "pid": 1, "started": 0.0}
    assert epochs(ledger).put_new(epoch, json.dumps(holder).encode())
    ledger.store.put(beat_key(ledger, epoch), str(beat).encode())


def while_it_beats(ledger):
    """How a second driver waits for a first one that lives."""
    beats = iter(range(100, 200))
    return lambda seconds: ledger.store.put(beat_key(ledger, 1), str(next(beats)).encode())


def test_a_finished_holder_gives_way_at_once(ledger):
    with Lease(ledger) as first:
        assert first._epoch == 1
    with Lease(ledger) as second:
        assert second._epoch == 2


def test_a_second_driver_on_this_host_is_refused_while_the_first_lives(ledger):
    with Lease(ledger):
        with pytest.raises(LeaseHeld, match="driven by another process"):
            with Lease(ledger, while_it_beats(ledger)):
                pass


def test_a_holder_on_this_host_does_not_seem_dead_when_the_clock_is_set(ledger, monkeypatch):
    with Lease(ledger):
        started = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 3600)
        with pytest.raises(LeaseHeld):
            Lease(ledger, while_it_beats(ledger)).__enter__()


def test_a_last_beat_that_storage_refuses_hides_no_error(ledger, monkeypatch):
    def refuse(key, body):
        raise Denied("refused")

    with pytest.raises(LookupError), Lease(ledger):
        monkeypatch.setattr(ledger.store, "put", refuse)
        raise LookupError


def test_a_dead_process_of_this_host_gives_way_without_waiting(ledger, monkeypatch):
    code = f"""
import os
from pipeline.state.lease import Lease
from pipeline.state.ledger import Ledger
Lease(Ledger({ledger.output_uri!r}, "tiles")).__enter__()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)

    def no_wait(seconds):
        raise AssertionError("waited for a dead process")

    with Lease(ledger, no_wait) as taken:
        assert taken._epoch == 2


def test_a_silent_holder_elsewhere_is_overtaken_after_the_stale_time(ledger, monkeypatch):
    other_holder(ledger, 1)
    waited, said = [], []
    monkeypatch.setattr(module.log, "info", lambda *words: said.append(words[0] % words[1:]))
    with Lease(ledger, waited.append) as taken:
        assert taken._epoch == 2
    assert sum(waited) == module.STALE_S
    first, last = said
    assert first.startswith("model tiles: process ") and "waiting up to 30 s to see whether it still runs" in first
    assert last.startswith("model tiles: process ") and last.endswith(" no longer runs; this command takes over")
    with Lease(ledger):
        pass
    assert len(said) == 2, "a lease that was given back is taken without a word"


def test_a_holder_that_was_overtaken_stops(ledger):
    with Lease(ledger) as held:
        held.check()
        other_holder(ledger, 2)
        with pytest.raises(LeaseLost):
            held.check()


def test_a_driver_lists_no_epoch_but_the_newest(ledger, monkeypatch):
    """Otherwise each night would list one more object than the night before."""
    for _ in range(120):
        with Lease(ledger):
            pass
    listed, original = [], LocalStore.list

    def list_and_note(store, *args, **options):
        for entry in original(store, *args, **options):
            listed.append(entry.key)
            yield entry

    monkeypatch.setattr(LocalStore, "list", list_and_note)
    with Lease(ledger) as held:
        assert held._epoch == 121
        held.check()
    assert listed == [beat_key(ledger, 120), beat_key(ledger, 121)]
