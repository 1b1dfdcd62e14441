import pytest

from pipeline import run as module
from pipeline.run import wait_for_storage
from pipeline.storage.objects import Denied, Unreachable


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only sleeping spends."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def storage(*answers):
    left = list(answers)

    def ask():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer

    return ask, left


def test_storage_that_comes_back_is_waited_for_and_this_is_said_once(clock, monkeypatch):
    said = []
    monkeypatch.setattr(module.log, "warning", lambda *words: said.append(words[0] % words[1:]))
    ask, left = storage(*[Unreachable("no answer")] * 3, None)
    wait_for_storage(ask, 600)
    assert not left and clock[0] == 3 * module.ASK_AGAIN_S
    assert said == ["storage does not answer; waiting 600 s for it. no answer"]


def test_storage_that_stays_away_ends_the_run(clock):
    ask, left = storage(*[Unreachable("no answer")] * 100)
    with pytest.raises(Unreachable, match="no answer"):
        wait_for_storage(ask, 60)
    assert clock[0] == 60


def test_a_refusal_is_an_answer(clock):
    wait_for_storage(storage(Denied("not yours"))[0], 60)
    assert clock[0] == 0
