"""A Python process without rights that reads what others wrote: started, noticed when it dies, ended.

The decoder (pipeline/decode/handle.py) and the parser of Parquet (pipeline/input/parquet/shard.py) are such processes. One
imports no ray. Before it imports the code that it serves it gives up everything that parsing does not need
(pipeline/decode/sandbox.py).
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile

from pipeline.decode.faults import DecodeError

START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "*given, most = map(int, sys.argv[2:-2]); parser, serving = sys.argv[-2:]; "
    "from pipeline.decode.sandbox import seal; sealed = seal(most, parser); "
    "importlib.import_module(serving).serve(sealed, *given, parser)"
)
START_TIMEOUT_S = 120.0  # to start, and to import torch
ENDING_S = 5.0
# glibc would return every picture's memory and fault it in again: a third of the decoder's time for small images
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
# it would keep a large picture for ever and leave less of the limit to the next: Pillow's pieces are 16 MiB by default
RETURN_LARGE = {"PILLOW_BLOCK_SIZE": "64m"}
# the two BLAS threads of numpy wait for each other by spinning, but a decoder is one of many and has one core
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NO_PROGRAMS = {"PATH": ""}  # it may start no program, and then the import of torch looks for none
ENVIRONMENT = KEEP_MEMORY | RETURN_LARGE | ONE_THREAD | NO_PROGRAMS
INHERITED = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONHOME",
    "PYTHONTZPATH",
)  # Python finds its own files by these; none is a secret
TAIL_BYTES = 2000  # kept of the child's standard error

log = logging.getLogger(__name__)
_told: set[str] = set()


class DecoderUnavailable(DecodeError, RuntimeError):
    """The decoder's process does not start: the fault of this machine, not of an image."""


class SealedProcess:
    """The process, the ends of its two pipes, and its standard error.

    requests, responses: file descriptors to write and to read; whoever holds the process closes them.
    """

    def __init__(self, serving: str, parser: str, max_bytes: int, memory: int | None = None):
        """Start it.

        Args:
            serving: module whose `serve(sealed, request_fd, response_fd, memory_fd, parser)` runs there; without `memory`
                it gets no memory_fd.
            parser: `module:function` that it will import.
            max_bytes: the most memory that parsing may ask for.
            memory: file descriptor of shared memory.
        """
        self.owner = os.getpid()
        self._log = tempfile.TemporaryFile()  # standard error: libtiff writes a lot there, a crash its reason
        fcntl.fcntl(self._log, fcntl.F_SETFL, fcntl.fcntl(self._log, fcntl.F_GETFL) | os.O_APPEND)  # each request empties it
        request_read, self.requests = os.pipe()
        self.responses, response_write = os.pipe()
        given = (request_read, response_write, *(() if memory is None else (memory,)))
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(_search_path()), *map(str, (*given, max_bytes)), parser, serving],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=ENVIRONMENT | {name: os.environ[name] for name in INHERITED if name in os.environ},
            cwd="/",
            umask=0o077,
        )
        self.pid = self._process.pid
        os.close(request_read)
        os.close(response_write)

    def started(self, unsealed: str | None) -> None:
        """Takes its first line, which lists the rights that could not be taken away; warns of each once.

        Raises DecoderUnavailable when there is no such line.
        """
        if not unsealed:
            raise DecoderUnavailable(f"the decoder must start within {START_TIMEOUT_S:.0f} s; it did not: {self.died()}")
        for what in set(json.loads(unsealed)) - _told:
            _told.add(what)
            log.warning("the decoder's process is not limited in %s: a hostile image might use that", what)

    def usable(self) -> bool:
        """Whether it runs and belongs to this process (not to the one that this was forked from)."""
        return self.owner == os.getpid() and self._process.poll() is None

    def forget_errors(self) -> None:
        """Empty its standard error."""
        os.ftruncate(self._log.fileno(), 0)

    def died(self) -> str:
        """How it ended. Waits if it is about to end: its pipe closes before it is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        return self.end()

    def end(self) -> str:
        """End the process; returns how it ended: the name of a signal, or its exit code and last words."""
        self._process.kill()
        status = self._process.wait()
        if self._log.closed:
            return ""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - TAIL_BYTES))
        self.last_words = self._log.read().decode("utf-8", "replace")
        self._log.close()
        if status < 0:
            return signal.Signals(-status).name
        lines = self.last_words.split("\n")
        return f"exit code {status}: {next((line for line in reversed(lines) if line.strip()), '')}"


def _search_path() -> list[str]:
    """sys.path for a process with another working directory; an entry that is not a path belongs to an import hook."""
    return [os.path.abspath(entry) if not entry or os.path.exists(entry) else entry for entry in sys.path]
