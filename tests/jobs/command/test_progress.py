import io
import re

import pytest

from jobs.command.log import Stamped
from jobs.command.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def lines(out):
    """What was printed, without the times that every line must have."""
    shown = out.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in shown), shown
    return [line.partition(" ")[2] for line in shown]


def test_plain_lines_come_every_n_seconds_and_at_the_end():
    clock, out = Clock(), io.StringIO()
    with Progress("scoring", total=1000, failed="in errors", every_s=10, stream=out, clock=clock) as progress:
        for step in range(21):
            clock.now = 100.0 + step
            progress.update(done=10 * step, errors=step // 10)
        progress.update(done=205, errors=2)
    assert lines(out) == [
        "scoring: 0/1,000 images, 0%, 0 in errors",
        "scoring: 100/1,000 images, 10%, 10.0 images/s, 1 in errors, 1 min 30 s left",
        "scoring: 200/1,000 images, 20%, 10.0 images/s, 2 in errors, 1 min 20 s left",
        "scoring: 205/1,000 images, 20%, 10.2 images/s, 2 in errors, 1 min 18 s left",
    ]


def test_what_an_earlier_attempt_did_does_not_count_into_the_rate():
    clock, out = Clock(), io.StringIO()
    with Progress("scoring", total=1000, stream=out, clock=clock) as progress:
        progress.update(done=900)
        clock.now += 10
        progress.update(done=950)
    assert "950/1,000 images, 95%, 5.0 images/s, 0 not readable, 10 s left" in out.getvalue()


def test_the_end_is_said_once():
    clock, out = Clock(), io.StringIO()
    with Progress("scoring", total=100, stream=out, clock=clock) as progress:
        progress.update(done=0)
        clock.now += 20
        progress.update(done=100)
        clock.now += 15  # until somebody has looked whether anything is open
        progress.update(done=100, total=100)
    assert lines(out) == [
        "scoring: 0/100 images, 0%, 0 not readable",
        "scoring: 100/100 images, 100%, 5.0 images/s, 0 not readable, took 20 s",
    ]


def test_unknown_total_goes_by_the_given_fraction():
    clock, out = Clock(), io.StringIO()
    with Progress("scoring", total=None, stream=out, clock=clock) as progress:
        progress.update(done=0, fraction=0.0)
        clock.now += 60
        progress.update(done=600, fraction=0.25)
        clock.now += 180
        progress.update(done=2400, fraction=1.0, total=2400)
    shown = lines(out)
    assert shown[1] == "scoring: 600 images, 25%, 10.0 images/s, 0 not readable, 3 min 00 s left"
    assert shown[2] == "scoring: 2,400/2,400 images, 100%, 10.0 images/s, 0 not readable, took 4 min 00 s"


def test_a_terminal_gets_one_redrawn_line_with_a_bar():
    clock, out = Clock(), Terminal()
    with Progress("training", total=40, unit="steps", failed=None, stream=out, clock=clock) as progress:
        progress.update(done=10, loss=1.25)
        clock.now += 0.1
        progress.update(done=11, loss=1.24)
        clock.now += 0.1
        progress.update(done=20, loss=0.5)
    first, second = out.getvalue().removeprefix("\r").removesuffix("\n").split("\r")
    assert first.startswith("[######..................] training: 10/40 steps, 25%, loss 1.25")
    assert second.startswith("[############............] training: 20/40 steps")
    assert len(second) >= len(first)


def test_a_line_of_a_log_has_one_time():
    out = io.StringIO()
    with Progress("scoring", total=3, stream=Stamped(out, lambda: "2026-06-03T12:00:00Z")) as progress:
        progress.update(done=3)
    assert out.getvalue() == "2026-06-03T12:00:00Z scoring: 3/3 images, 100%, 0 not readable, took 0 s\n"


def test_nothing_is_printed_when_nothing_was_done():
    out = Terminal()
    with Progress("scoring", total=3, stream=out):
        pass
    assert out.getvalue() == ""


def test_no_silence_is_longer_than_ten_seconds():
    """The thread calls `still` every two seconds; here the test does."""
    clock, out = Clock(), io.StringIO()
    with Progress("scoring", total=1000, stream=out, clock=clock) as progress:
        for _ in range(11):
            clock.now += 2
            progress.still()
        progress.update(done=50)
        clock.now += 1
        progress.update(done=100)
        progress.note("publishing")
        for _ in range(10):
            clock.now += 2
            progress.still()
        progress.update(done=100)
    assert [line.partition(" ")[2] for line in out.getvalue().splitlines()] == [
        "scoring: still at work, for 10 s",
        "scoring: still at work, for 20 s",
        "scoring: 100/1,000 images, 10%, 50.0 images/s, 0 not readable, 18 s left",
        "scoring: publishing, for 18 s",
        "scoring: 100/1,000 images, 10%, 2.4 images/s, 0 not readable, 6 min 18 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"), (90000, "25 h 00 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
