"""One `flowscore score` in a process that can be killed; it is forked from a process that has imported everything."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

START = multiprocessing.get_context("forkserver")
TIMEOUT_S = 120


def prepare() -> None:
    """Start the process that drivers are forked from; it can preload only modules on PYTHONPATH."""
    START.set_forkserver_preload(["driver_imports"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


class Driver:
    """A run of the command. `log` holds what it printed, `code` its exit code, negative for a signal."""

    def __init__(self, settings: dict[str, Any], environment: dict[str, str], log: Path, host: str | None = None) -> None:
        self.log = log
        self._process: ForkServerProcess = START.Process(target=drive, args=(settings, environment, str(log), host))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """Send SIGKILL, at any point; returns once the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        connection.wait([self._process.sentinel])  # `wait` may be in join at the same time

    def wait(self) -> int:
        """The exit code; raises AssertionError if the process does not end."""
        self._process.join(TIMEOUT_S)
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise AssertionError(f"the driver did not end within {TIMEOUT_S} s:\n{self.log.read_text()}")
        return code


def drive(settings: dict[str, Any], environment: dict[str, str], log: str, host: str | None = None) -> None:
    """Be the driver in this process: score, print to `log`, exit."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= environment
    tempfile.tempdir = None  # the environment may set TMPDIR
    import torch
    from inline_engine import InlineEngine

    from jobs.command.config import load
    from jobs.command.entry import run
    from jobs.score import report, score
    from jobs.settings.scoring import ScoreSettings

    torch.set_num_threads(1)
    if host is not None:
        socket.gethostname = lambda: host

    def main() -> None:
        """One run."""
        report(score(load(ScoreSettings, None, **settings), InlineEngine()))

    run(main, [])
