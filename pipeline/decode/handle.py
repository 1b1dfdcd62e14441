"""The parent's side of the decoder's process: starts it, hands it images, notices when it dies or hangs."""

import contextlib
import fcntl
import json
import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.decode.child import IMPORTING, MARK_BYTES, READY, START_TIMEOUT_S
from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow, Request, rows_of
from pipeline.decode.faults import DecodeError

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); numbers, decoder = map(int, sys.argv[2:6]), sys.argv[6]; "
    "from pipeline.decode.sandbox import seal; *shared, most = numbers; sealed = seal(most, decoder); "
    "from pipeline.decode.child import serve; serve(sealed, *shared, decoder)"
)
POLL_S = 0.5
ENDING_S = 5.0
PIPE_BYTES = 1 << 16
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


class Lost(NamedTuple):
    """The process was lost at image `at` of a call; by_kill: SIGKILL ended it, which comes from outside."""

    at: int
    message: str
    by_timeout: bool
    by_kill: bool


class Decoder:
    """One decoder process, its pipes and the memory shared with it; the system frees that memory when both processes are gone.

    max_decode_bytes: the most that any config given to it may ask for.
    """

    def __init__(self, decode: str, max_decode_bytes: int):
        self.owner, self.max_decode_bytes = os.getpid(), max_decode_bytes
        self._memory = os.memfd_create("flowscore-decode") if hasattr(os, "memfd_create") else _unlinked_file()
        self._log = tempfile.TemporaryFile()  # standard error: libtiff writes a lot there, a crash its reason
        fcntl.fcntl(self._log, fcntl.F_SETFL, fcntl.fcntl(self._log, fcntl.F_GETFL) | os.O_APPEND)  # each request empties it
        request_read, request_write = os.pipe()
        response_read, response_write = os.pipe()
        given = (request_read, response_write, self._memory)
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(_search_path()), *map(str, given), str(max_decode_bytes), decode],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=ENVIRONMENT | {name: os.environ[name] for name in INHERITED if name in os.environ},
            cwd="/",
            umask=0o077,
        )
        os.close(request_read)
        os.close(response_write)
        self._requests, self._responses, self._received = os.fdopen(request_write, "w"), os.fdopen(response_read, "rb", 0), b""
        unsealed = self._answer(START_TIMEOUT_S, lambda: 0)
        if not unsealed:
            raise DecoderUnavailable(f"the decoder must start within {START_TIMEOUT_S:.0f} s; it did not: {self.died()}")
        for what in set(json.loads(unsealed)) - _told:
            _told.add(what)
            log.warning("the decoder's process is not limited in %s: a hostile image might use that", what)

    def usable(self) -> bool:
        """Whether it runs and belongs to this process (not to the one that this was forked from)."""
        return self.owner == os.getpid() and self._process.poll() is None

    def decode(
        self, images: list[pa.Buffer], config: DecodeConfig, timeout_s: float, pixels: np.ndarray, rows: list[int]
    ) -> list[DecodedRow] | Lost:
        """What `decode_rows` gives for the images; the pixels of image i go to `pixels[rows[i]]` (H, W, 3).

        After `Lost` the process is gone. `timeout_s` is for one image.
        """
        request = self._request(images, config, timeout_s, len(images))
        return self._ask(images, request, lambda decoded: pixels.__setitem__(rows, decoded))

    def open(self, image: pa.Buffer, config: DecodeConfig, timeout_s: float) -> DecodedRow | Lost:
        """As `decode` for one image, whose pixels stay with the process for `tiles`. config.resize is `tile`."""
        answer = self._ask([image], self._request([image], config, timeout_s, 0))
        return answer if isinstance(answer, Lost) else answer[0]

    def tiles(self, origins: list[tuple[int, int]], config: DecodeConfig, timeout_s: float, last: bool) -> np.ndarray | Lost:
        """Tiles of the opened image, (n, H, W, 3) uint8, at (top, left) px. last: the image is no longer needed."""
        tiles = np.empty((len(origins), config.height, config.width, 3), np.uint8)
        asked = replace(self._request([], config, timeout_s, len(origins)), origins=tuple(origins), last=last)
        answer = self._ask([], asked, lambda cut: np.copyto(tiles, cut))
        return answer if isinstance(answer, Lost) else tiles

    @staticmethod
    def _request(images: list[pa.Buffer], config: DecodeConfig, timeout_s: float, places: int) -> Request:
        """The images, and shared memory for them and for `places` pictures of the input's size."""
        lengths = tuple(image.size for image in images)
        size = MARK_BYTES + places * config.height * config.width * 3 + sum(lengths)
        return Request(config, places, size, timeout_s, lengths)

    def _ask(
        self, images: list[pa.Buffer], request: Request, take: Callable[[np.ndarray], None] | None = None
    ) -> list[DecodedRow] | Lost:
        """Send a request with its images; `take` gets the pictures, (n, H, W, 3)."""
        shape = (request.places, request.config.height, request.config.width, 3)
        start, timeout_s = request.size - sum(request.lengths), request.timeout_s
        os.ftruncate(self._log.fileno(), 0)
        os.ftruncate(self._memory, request.size)  # grown from 0: all zeros
        with mmap.mmap(self._memory, request.size) as memory:
            for image in images:
                memory[start : start + image.size] = image
                start += image.size
            with contextlib.suppress(BrokenPipeError):  # it just died; the missing answer says so
                self._requests.write(request.line())
                self._requests.flush()
            answer = self._answer(timeout_s, lambda: _mark(memory, len(images)))
            if not answer:
                return self._lost(_mark(memory, len(images)), answer is None, timeout_s)
            if take is not None:
                decoded = np.frombuffer(memory, np.uint8, int(np.prod(shape)), MARK_BYTES).reshape(shape)  # (n, H, W, 3)
                take(decoded)
                del decoded  # a mapping cannot be closed while an array refers to it
        os.ftruncate(self._memory, 0)  # an idle decoder holds no memory
        return rows_of(answer)

    def died(self) -> str:
        """How it ended. Waits if it is about to end: its pipe closes before it is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        return self.end()

    def end(self) -> str:
        """End the process and close its files; returns how it ended."""
        self._process.kill()
        status = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        for file in (self._requests, self._responses, self._log):
            with contextlib.suppress(BrokenPipeError):  # a request that it never read
                file.close()
        with contextlib.suppress(OSError):  # closed already
            os.close(self._memory)
        if status < 0:
            return signal.Signals(-status).name
        return f"exit code {status}: {next((line for line in reversed(lines) if line.strip()), '')}"

    def _answer(self, timeout_s: float, mark: Callable[[], int]) -> str | None:
        """The next line; "" when the process died; None when the mark did not move for `timeout_s`."""
        last, since = mark(), time.monotonic()
        while (line := self._line(min(POLL_S, timeout_s))) in (None, IMPORTING):
            if line == IMPORTING and self._answer(START_TIMEOUT_S, lambda: 0) != READY:
                raise DecoderUnavailable(
                    f"the decoder must import torch within {START_TIMEOUT_S:.0f} s; it did not: {self.died()}"
                )
            now = mark()
            if now > last or line == IMPORTING:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > timeout_s:
                return None
        return line

    def _line(self, timeout_s: float) -> str | None:
        """The next line with its end, or "" when the pipe is closed; None when nothing came for `timeout_s`."""
        while b"\n" not in self._received:
            if not select.select([self._responses], [], [], timeout_s)[0]:
                return None
            piece = self._responses.read(PIPE_BYTES)
            if not piece:
                return ""
            self._received += piece
        line, end, self._received = self._received.partition(b"\n")
        return (line + end).decode()

    def _lost(self, at: int, by_timeout: bool, timeout_s: float) -> Lost:
        if by_timeout:
            self.end()
            return Lost(at, f"the decoder took longer than {timeout_s:g} s for this image", True, False)
        how = self.died()
        return Lost(at, f"the decoder's process died of this image ({how})", False, how == signal.SIGKILL.name)


def _mark(memory: mmap.mmap, images: int) -> int:
    """The index of the image that the child claims to be at; it may claim anything."""
    return max(0, min(int.from_bytes(memory[:MARK_BYTES], "little"), images - 1))


def _search_path() -> list[str]:
    """sys.path for a process with another working directory; an entry that is not a path belongs to an import hook."""
    return [os.path.abspath(entry) if not entry or os.path.exists(entry) else entry for entry in sys.path]


def _unlinked_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
