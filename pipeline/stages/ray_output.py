"""What Ray prints in the driver: lines of nodes without colours, and no alarm at a good start."""

import os
import re
import select
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
HELD_BACK_S = 0.2
"""So long text without a line's end waits for the rest of its line: Ray's core writes a line at once."""

READ_BYTES = 1 << 16


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
    passes everything else on at once, also a bar, which has no line's end. Standard error is as before as soon as the known
    line has come `times` times, `give_back` is called, the thread cannot write, or the block ends: a process that dies later
    writes its last words straight to where they belong.
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
        self.give_back()
        self._thread.join(JOIN_S)  # a process that was started meanwhile may hold the pipe open; the thread goes on then

    def give_back(self) -> None:
        """Standard error as it was before; what was written until now is still looked through. It may be called again."""
        with self._lock:
            if self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1

    def _pass_on(self) -> None:
        left, begun = self._times, b""
        try:
            while True:
                if begun and not _ready(self._read, select.POLLIN, HELD_BACK_S):
                    _write(self._out, begun)
                    begun = b""
                read = os.read(self._read, READ_BYTES)
                *lines, begun = (begun + read).split(b"\n")
                for line in lines:
                    if left and KNOWN in line:
                        left -= 1
                        if not left:
                            self.give_back()
                    else:
                        _write(self._out, line + b"\n")
                if not read:
                    _write(self._out, begun)
                    return
        except OSError:  # standard error is gone: whoever writes there next finds out itself
            return
        finally:
            self.give_back()
            os.close(self._read)
            os.close(self._out)


def _write(descriptor: int, text: bytes) -> None:
    """All of it. Another program may have made the file non-blocking, such as a terminal that it shares."""
    while text:
        try:
            text = text[os.write(descriptor, text) :]
        except BlockingIOError:
            _ready(descriptor, select.POLLOUT)


def _ready(descriptor: int, event: int, wait_s: float | None = None) -> bool:
    """Whether it can be read or written; waits so long for it. `select` takes no descriptor above 1,023."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(None if wait_s is None else 1000 * wait_s))
