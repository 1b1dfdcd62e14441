from pipeline.state.attempts import NOTED_EVERY_S, Attempt, read_attempts
from pipeline.state.ledger import Ledger


def test_attempts_are_drivers_of_the_slice_and_their_time_adds_up(tmp_path):
    ledger, now = Ledger(str(tmp_path), "tiles"), [0.0]
    assert read_attempts(ledger, 2) == (0, None, 0)
    with Attempt(ledger, 2, lambda: now[0]):
        now[0] = 7.5
    killed = Attempt(ledger, 2, lambda: now[0]).__enter__()
    now[0] += NOTED_EVERY_S + 1
    killed.note()
    now[0] += 3
    killed.note()  # too soon to be written
    with Attempt(ledger, 3, lambda: now[0]):
        pass
    found = read_attempts(ledger, 2)
    assert (found.drivers, found.spent_s) == (2, 7.5 + NOTED_EVERY_S + 1)
    assert found.started_at is not None
    assert read_attempts(ledger, 3).drivers == 1
