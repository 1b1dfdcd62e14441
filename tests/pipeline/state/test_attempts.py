import threading
import time

import pytest

from pipeline.state import attempts
from pipeline.state.attempts import Attempt, read_attempts
from pipeline.state.ledger import Ledger
from pipeline.storage.local import LocalStore


def test_attempts_are_drivers_of_the_slice_and_their_time_adds_up(tmp_path):
    ledger, now = Ledger(str(tmp_path), "tiles"), [0.0]
    assert read_attempts(ledger, 2) == (0, None, 0, frozenset())
    with Attempt(ledger, 2, lambda: now[0]) as first:
        assert not first.goes_on
        now[0] = 7.5
    with Attempt(ledger, 2, lambda: now[0]) as second:
        assert second.goes_on
        now[0] += 3
    with Attempt(ledger, 3, lambda: now[0]) as other:
        assert not other.goes_on
    found = read_attempts(ledger, 2)
    assert (found.drivers, found.spent_s) == (2, 10.5)
    assert found.started_at is not None
    assert read_attempts(ledger, 3).drivers == 1


def test_the_time_of_a_killed_driver_counts_even_if_nothing_was_finished(tmp_path, monkeypatch):
    """A driver may start Ray and load a model for a minute before anything is noted of devices."""
    monkeypatch.setattr(attempts, "NOTED_EVERY_S", 0.01)
    ledger, now = Ledger(str(tmp_path), "tiles"), [0.0]
    with Attempt(ledger, 2, lambda: now[0]):  # its thread stands for what a killed driver has left: it never says more than 25
        now[0] = 25.0
        deadline = time.monotonic() + 60
        while read_attempts(ledger, 2).spent_s < 25 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_attempts(ledger, 2).spent_s == 25
        started, later = read_attempts(ledger, 2).started_at, [0.0]
        with Attempt(ledger, 2, lambda: later[0]):
            later[0] = 5.0
        found = read_attempts(ledger, 2)
        assert (found.drivers, found.spent_s, found.started_at) == (2, 30, started)


def test_a_driver_that_is_stopped_does_not_wait_for_storage_to_take_its_time(tmp_path, monkeypatch):
    """It has three seconds to give its lease back."""
    monkeypatch.setattr(attempts, "NOTED_EVERY_S", 0.01)
    monkeypatch.setattr(attempts, "STOP_S", 0.01)
    writing, answers, put = threading.Event(), threading.Event(), LocalStore.put

    def slow(self, key, body):
        writing.set()
        answers.wait(60)
        put(self, key, body)

    ledger, now = Ledger(str(tmp_path), "tiles"), [0.0]
    monkeypatch.setattr(LocalStore, "put", slow)
    with pytest.raises(KeyboardInterrupt), Attempt(ledger, 2, lambda: now[0]) as stopped:
        assert writing.wait(60)
        raise KeyboardInterrupt
    assert stopped._thread.is_alive() and not answers.is_set()
    now[0] = 25.0
    answers.set()
    stopped._thread.join(60)
    assert read_attempts(ledger, 2).spent_s == 25, "the thread's last note still comes, if the process lives so long"


def test_a_slice_that_goes_on_on_another_device_says_so_once(tmp_path):
    ledger = Ledger(str(tmp_path), "tiles")
    h100, l4, cpu = "cuda-bf16: NVIDIA H100", "cuda-bf16: NVIDIA L4", "cpu-bf16: CPU with AVX512"
    with Attempt(ledger, 2, lambda: 0.0) as first:
        assert first.note({h100}) is None and first.note({h100, cpu}) is None, "no earlier driver has scored"
        assert read_attempts(ledger, 2).scored_on == {h100, cpu}, "written at once: a killed driver leaves it"
    with Attempt(ledger, 2, lambda: 0.0) as second:
        assert second.note(set()) is None and second.note({cpu}) is None
        line = second.note({cpu, l4})
        assert line is not None and line.startswith(f"tiles slice 2: images are now scored on {l4}; earlier commits")
        assert f"were scored on {cpu} and on {h100}." in line and "\n" not in line
        assert second.note({cpu, l4}) is None
    assert read_attempts(ledger, 2).scored_on == {h100, l4, cpu}
    with Attempt(ledger, 3, lambda: 0.0) as other:
        assert other.note({l4}) is None


def test_attempts_of_an_earlier_version_say_no_device(tmp_path):
    ledger = Ledger(str(tmp_path), "tiles")
    ledger.store.put(
        f"{ledger.prefix}/attempts/000002/0001.json", b'{"started_at": "2026-01-01T00:00:00+00:00", "spent_s": 1.0}'
    )
    with Attempt(ledger, 2) as attempt:
        assert attempt.note({"cuda-bf16: NVIDIA L4"}) is None
    assert read_attempts(ledger, 2).drivers == 2
