"""The exit code of a command that a signal reaches: it says whether the work was stopped."""

import os
import signal
import sys

import pytest

from jobs.command.entry import run
from jobs.command.errors import PartialRunError, UsageError
from pipeline.storage.objects import Unreachable


class Deleted:
    """Python swallows what is raised while it deletes an object."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def code_of(main):
    with pytest.raises(SystemExit) as ended:
        run(main, [])
    return ended.value.code


@pytest.mark.parametrize(("error", "code"), [(None, 0), (PartialRunError("open"), 5), (UsageError("a", "b", "c", "d"), 2)])
def test_a_command_that_a_signal_did_not_stop_keeps_its_own_code(monkeypatch, error, code):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_type))

    def main() -> None:
        Deleted()
        if error is not None:
            raise error

    assert (code_of(main), lost) == (code, [KeyboardInterrupt])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_cannot_be_closed_after_a_signal_is_said_and_the_code_stays_that_of_the_signal(capsys, number):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored

    def main() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            raise Unreachable("s3://plant/results: no answer") from None

    try:
        code = code_of(main)
    finally:
        signal.signal(signal.SIGINT, before)
    shown = capsys.readouterr().err.splitlines()
    assert code == (143 if number == signal.SIGTERM else 130)
    assert shown[0].startswith("error: storage does not answer: s3://plant/results") and shown[-1].startswith(f"exit {code}: ")
