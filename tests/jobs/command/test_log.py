import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobs.command import log as module
from jobs.command.entry import run
from jobs.command.errors import MEANINGS, STOPPED_ON_A_LEDGER, ExitCode, PartialRunError, UsageError
from jobs.command.log import RAY_JOB, Stamped, begin, begin_in_job

ROOT = Path(__file__).parents[3]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
LATER = logging.getLogger("pipeline.later")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_noon():
    return "2026-06-03T12:00:00Z"


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    monkeypatch.delenv(RAY_JOB, raising=False)


def test_every_line_has_the_time_and_comes_whole():
    out = io.StringIO()
    stream = Stamped(out, at_noon)
    print("one", file=stream)
    print("two, ", end="", file=stream)
    assert out.getvalue() == "2026-06-03T12:00:00Z one\n"
    print("which ends later\n\nthree", file=stream)
    stream.write("no end")
    stream.end()
    stream.end()
    lines = ["one", "two, which ends later", "three", "no end"]
    assert out.getvalue() == "".join(f"2026-06-03T12:00:00Z {line}\n" for line in lines)


def test_lines_of_several_threads_do_not_mix():
    out = io.StringIO()
    stream = Stamped(out, at_noon)
    apart = threading.Barrier(2)

    def halves(word):
        for _ in range(50):
            stream.write(word)
            apart.wait(timeout=30)  # both have begun a line
            stream.write(f" {word}\n")

    both = [threading.Thread(target=halves, args=(word,)) for word in ("left", "right")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert set(out.getvalue().splitlines()) == {f"2026-06-03T12:00:00Z {word} {word}" for word in ("left", "right")}
    assert out.getvalue().count("\n") == 100


def works(ending=None):
    def main() -> None:
        """A verb that works on a ledger."""
        LATER.info("not yet")
        begin()
        LATER.info("model tiles: listing")
        LATER.warning("storage does not answer")
        print("model tiles: published slice 3")
        if ending is not None:
            raise ending

    return main


def ended(main, capsys):
    """Exit code, and the lines of stdout and stderr."""
    before = sys.stdout, sys.stderr, LATER.getEffectiveLevel(), logging.getLogger("pipeline").handlers[:]
    with pytest.raises(SystemExit) as end:
        run(main, [])
    assert before == (sys.stdout, sys.stderr, LATER.getEffectiveLevel(), logging.getLogger("pipeline").handlers[:])
    out, err = capsys.readouterr()
    return int(end.value.code), out.splitlines(), err.splitlines()


def unstamped(lines):
    """The lines without their times, which all must have."""
    assert all(TIME.match(line) for line in lines), lines
    return [TIME.sub("", line, count=1) for line in lines]


def test_a_log_ends_with_the_code_and_what_it_means(capsys):
    code, out, err = ended(works(), capsys)
    assert code == 0 and unstamped(out) == ["model tiles: published slice 3"]
    assert unstamped(err) == ["model tiles: listing", "warning: storage does not answer", "exit 0: done"]
    code, _, err = ended(works(PartialRunError("partial: 3 work unit(s) are still open")), capsys)
    assert code == 5 and unstamped(err)[2:] == [
        "error: partial: 3 work unit(s) are still open",
        f"exit 5: {MEANINGS[5]}",
    ]


def test_a_bug_keeps_its_traceback_and_the_log_ends_all_the_same(capsys):
    code, _, err = ended(works(KeyError("score")), capsys)
    lines = unstamped(err)
    assert code == 1 and "Traceback (most recent call last):" in lines and lines[-2] == "KeyError: 'score'"
    assert lines[-1].startswith("exit 1: an error that nobody foresaw")


def test_a_wrong_command_is_one_line(capsys):
    def main() -> None:
        """A verb whose settings cannot work."""
        raise UsageError("--rate", "below 1", 2, "Leave it out.")

    assert ended(main, capsys) == (2, [], ["error: --rate must be below 1; got 2. Leave it out."])


def test_a_job_of_ray_says_its_code_whatever_the_verb(capsys, monkeypatch):
    def main() -> None:
        """A verb that answers a question."""
        print('{"answer": 1}')
        raise UsageError("--rate", "below 1", 2, "Leave it out.")

    monkeypatch.setenv(RAY_JOB, json.dumps({"metadata": {"job_submission_id": "night-1"}}))
    code, out, err = ended(main, capsys)
    assert code == 2 and out == ['{"answer": 1}'], "the answer is not stamped"
    said = unstamped(err)
    assert said[0].startswith("error: --rate must be")
    assert said[1:] == [f"exit 2: {MEANINGS[2]} (give the job a new submission id)"]
    assert ended(works(), capsys)[2][-1].endswith("exit 0: done")


def test_a_verb_may_begin_at_once_in_a_job_only(capsys, monkeypatch):
    def main() -> None:
        """A verb that says what it reads from its settings."""
        begin_in_job()
        print("key pattern {lot}/{name}: 3 of 3 paths match")

    assert ended(main, capsys) == (0, ["key pattern {lot}/{name}: 3 of 3 paths match"], [])
    monkeypatch.setenv(RAY_JOB, "{}")
    code, out, err = ended(main, capsys)
    assert (
        code == 0 and unstamped(out) == ["key pattern {lot}/{name}: 3 of 3 paths match"] and unstamped(err) == ["exit 0: done"]
    )


def test_a_terminal_gets_no_times_and_no_last_line(monkeypatch):
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit):
        run(works(), [])
    assert out.getvalue() == "model tiles: published slice 3\n"
    assert err.getvalue() == "model tiles: listing\nwarning: storage does not answer\n"


def test_every_exit_code_has_a_meaning():
    assert set(MEANINGS) == {*ExitCode, 1}


def test_ray_names_the_variable_so():
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert RAY_JOB == RAY_JOB_CONFIG_JSON_ENV_VAR


def test_functions_of_a_verb_work_without_run():
    begin()
    assert not isinstance(sys.stderr, Stamped) and module._kept == []


def test_only_what_works_on_a_ledger_is_published_with_the_rest(capsys, monkeypatch):
    """`train` is stopped in a job of Ray, whose output is a log whatever the verb."""

    def stopped() -> None:
        """A verb that has no ledger, or has not come to it."""
        begin_in_job()
        raise KeyboardInterrupt

    monkeypatch.setenv(RAY_JOB, "{}")
    new_id = " (give the job a new submission id)"
    assert unstamped(ended(stopped, capsys)[2]) == [f"exit 130: interrupted{new_id}"]
    of_a_ledger = f"exit 130: interrupted; {STOPPED_ON_A_LEDGER}{new_id}"
    assert unstamped(ended(works(KeyboardInterrupt()), capsys)[2])[-1] == of_a_ledger


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_the_command_in_order_and_in_one_line(number, code, tmp_path):
    script = tmp_path / "verb.py"
    script.write_text(
        "import os, signal, time\n"
        "from jobs.command.entry import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
        "def main() -> None:\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('the lease is given back', flush=True)\n"
        "run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout) == (code, "the lease is given back\n")
    assert done.stderr == f"exit {code}: {MEANINGS[code]}\n"
