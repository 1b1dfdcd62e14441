"""What Ray prints in the driver: lines of nodes without colours, and no alarm at a good start."""

import contextlib
import os
import re
import sys
import threading
from types import TracebackType
from typing import Self

KNOWN = b"has constructor arguments in the object store and max_restarts > 0."
"""Ray's core prints this as an error for each scorer that Ray Data starts. It tells the author of such an actor that it cannot
be restarted once its arguments are lost; Ray Data keeps them as long as its execution lasts."""

LAST_WORDS = "; this process ends$"
"""Scorers on different GPUs say this in lines that differ in their numbers only, and Ray would leave out all but one."""

JOIN_S = 1.0


def set_output() -> None:
    """What a user has set for Ray in the environment stays. It may be called again."""
    from ray._private.ray_logging import stderr_deduplicator, stdout_deduplicator

    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    for deduplicator in (stdout_deduplicator, stderr_deduplicator):  # Ray reads its variable as soon as it is imported
        before = deduplicator.allow_re.pattern if deduplicator.allow_re else LAST_WORDS
        deduplicator.allow_re = re.compile(before if LAST_WORDS in before else f"{before}|{LAST_WORDS}")


def end_output() -> None:
    """Print what Ray keeps back of lines that are alike, and let it print none after them: a command's own line is the last."""
    if "ray._private.worker" not in sys.modules:  # nothing has started Ray, which takes a second to import
        return
    from ray._private import ray_logging, worker

    ray_logging.global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    for deduplicator, stream in ((ray_logging.stdout_deduplicator, sys.stdout), (ray_logging.stderr_deduplicator, sys.stderr)):
        for batch in deduplicator.flush():
            worker.print_worker_logs(batch, stream)


class WithoutKnown:
    """Leaves out one known line of what this process writes to its standard error, so many times; a context manager.

    Ray's core writes there itself, below Python, and has no setting for it: from a level on it prints all or nothing. A thread
    passes every other line on at once. It ends when the known line has come `times` times, or with the block.
    """

    def __init__(self, times: int) -> None:
        self._times = times
        self._kept = self._out = self._read = -1
        self._thread = threading.Thread(target=self._pass_on, name="flowscore-stderr", daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._kept, self._out = os.dup(2), os.dup(2)
        self._read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()
        self._thread.join(JOIN_S)  # a process that was started meanwhile may hold the pipe open; the thread goes on then

    def _give_back(self) -> None:
        with self._lock:
            if self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1

    def _pass_on(self) -> None:
        left = self._times
        with contextlib.closing(os.fdopen(self._read, "rb")) as lines:
            for line in lines:
                if left and KNOWN in line:
                    left -= 1
                    if not left:
                        self._give_back()
                else:
                    os.write(self._out, line)
        os.close(self._out)
