"""A command's log: every line with its time, and a last one with the exit code and what that means.

A verb that works on a ledger calls `begin` once its settings are checked. From then on, wherever a stream is no terminal, each
of its lines starts with the time in UTC, whoever writes it: a verb, a library, Ray for a process of a node. A job of Ray is
a log from its first line on, whatever the verb: nobody sees its exit code, since `ray job submit` returns 1 for any.
"""

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO

from jobs.command.errors import MEANINGS, STOPPED_ON_A_LEDGER, ExitCode
from jobs.command.node_lines import readable
from pipeline.stages.ray_output import end_output

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable, of this name, that Ray's job server gives to the process that it starts."""

OURS = ("jobs", "models", "pipeline")


def time_now() -> str:
    """`2026-06-03T01:30:07Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Stamped(io.TextIOBase):
    """A stream whose lines start with the time. A line is passed on when it is whole, and blank ones are left out."""

    def __init__(self, stream: TextIO, clock: Callable[[], str] = time_now) -> None:
        self._stream, self._clock = stream, clock
        self._begun = threading.local()  # by thread: `print` writes a line in two pieces
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        self._pass_on(lines)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Nothing: the stream below belongs to others."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def end(self) -> None:
        """Pass on the line that has no end yet."""
        self.write("\n")

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def _pass_on(self, lines: list[str]) -> None:
        shown = "".join(f"{self._clock()} {readable(line)}\n" for line in lines if line.strip())
        if shown:
            with self._lock:
                self._stream.write(shown)
                self._stream.flush()


class Log:
    """Whether the output of a command is a log, and what was there before. `run` keeps one for each command.

    on_ledger: whether the verb has begun to work on a ledger.
    """

    def __init__(self) -> None:
        self.job = RAY_JOB in os.environ
        self.on_ledger = False
        self._streams: dict[str, TextIO] = {}
        self._levels: dict[str, int] = {}
        self._handler = _ToStandardError()
        if self.job:
            self._stamp("stderr")

    def begin(self) -> None:
        """Stamp what is no terminal, and show what our modules say of their work."""
        for name in ("stdout", "stderr"):
            self._stamp(name)
        for name in OURS:
            logger = logging.getLogger(name)
            if name not in self._levels:
                self._levels[name] = logger.level
                logger.setLevel(logging.INFO)
                logger.addHandler(self._handler)

    @property
    def begun(self) -> bool:
        return "stderr" in self._streams

    def close(self, code: int) -> None:
        """Print the last line, if this is a log; what stops a command is said in any case."""
        if self.begun:
            end_output()
        stopped = code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
        if self.begun or stopped:
            meaning = MEANINGS.get(code, "as the lines above say")
            kept = f"; {STOPPED_ON_A_LEDGER}" if stopped and self.on_ledger else ""
            more = " (give the job a new submission id)" if self.job and code else ""
            print(f"exit {int(code)}: {meaning}{kept}{more}", file=sys.stderr, flush=True)

    def restore(self) -> None:
        """Streams and loggers as they were before."""
        for name, stream in self._streams.items():
            stamped = getattr(sys, name)
            if isinstance(stamped, Stamped):
                stamped.end()
            setattr(sys, name, stream)
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.removeHandler(self._handler)
        self._streams, self._levels = {}, {}

    def _stamp(self, name: str) -> None:
        stream = getattr(sys, name)
        if name not in self._streams and not stream.isatty():
            self._streams[name] = stream
            setattr(sys, name, Stamped(stream))


class _ToStandardError(logging.Handler):
    """Writes to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"{level}{self.format(record)}", file=sys.stderr, flush=True)


_kept: list[Log] = []
"""The log of the command that runs; empty where a verb's functions are called without `run`."""


@contextlib.contextmanager
def kept() -> Iterator[Log]:
    """The log of one command. Afterwards streams and loggers are as before."""
    log = Log()
    _kept.append(log)
    try:
        yield log
    finally:
        _kept.remove(log)
        log.restore()


def begin() -> None:
    """From here on the command works on a ledger, and its output is a log."""
    if _kept:
        _kept[-1].on_ledger = True
        _kept[-1].begin()


def begin_in_job() -> None:
    """The same, at once, in a job of Ray: there also what is said of wrong settings has a time."""
    if _kept and _kept[-1].job:
        _kept[-1].begin()


def stamped(line: str, stream: TextIO) -> str:
    """The line as it is to be written to the stream: with its time, where the stream does not add it."""
    return line if isinstance(stream, Stamped) else f"{time_now()} {line}"
