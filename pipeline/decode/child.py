"""The decoder's own process: reads jobs from a pipe, images from shared memory, and writes pixels there.

An image that is scored by tiles stays here as it is decoded; what goes back is tiles, some at a time, as they are asked for.

It is started by pipeline/decode/handle.py and imports no ray. Before it imports this file it gives up everything that decoding
does not need (pipeline/decode/sandbox.py); its first line says what this machine does not let it give up. It imports torch
with the first picture that pipeline/decode/resize.py gives to torch; it says so, IMPORTING, and then READY, since that time
and memory are no picture's.

It ends when the pipe of its parent closes. When it hangs, a watchdog ends it even if the parent is gone, by the clock or by
processor time. It may hold `max_decode_bytes` of memory of its own (what it shares with the parent is not counted): an image
that takes more gets an error, and nothing is killed.
"""

import contextlib
import faulthandler
import importlib
import json
import mmap
import os
import resource
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO, TextIO

import numpy as np

from pipeline.decode import resize, sandbox
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import cut_tiles
from pipeline.decode.unit import decode_rows

MARK_BYTES = 8  # at the start of the shared memory: index of the image that is being decoded
REARM_S = 5.0
READY, IMPORTING = "ready\n", "importing\n"
START_TIMEOUT_S = 120.0  # to start, and to import torch
GRACE_S = 30.0  # after the parent should have ended a hanging decoder itself


def serve(sealed: sandbox.Sealed, request_fd: int, response_fd: int, memory_fd: int, decoder: str) -> None:
    """Answer every job, a line of JSON, with a line of JSON: the columns or the fault of each image. The line before the first
    answer lists what could not be taken away.

    A job with `origins` asks for tiles of the first image of the job before it, and is answered with an empty list.

    Args:
        memory_fd: shared file: the mark, then the pixels or tiles, then the encoded images.
        decoder: `module:function` that decodes one image.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    faulthandler.enable()
    module, _, name = decoder.partition(":")
    decode = getattr(importlib.import_module(module), name)
    with os.fdopen(request_fd) as requests, os.fdopen(response_fd, "w") as responses:
        limit = MemoryLimit(sealed.status)
        _say(responses, json.dumps(sealed.missing) + "\n")
        resize.around_import = lambda: _announced(responses, limit)
        kept: list[np.ndarray | None] = []
        for line in requests:
            job = json.loads(line)
            config = DecodeConfig(**job["config"])
            limit.set(config.max_decode_bytes)
            sandbox.limit_cpu(job["timeout_s"] + GRACE_S)
            memory = mmap.mmap(memory_fd, job["size"])
            shape = (job["places"], config.height, config.width, 3)
            pixels = np.frombuffer(memory, np.uint8, int(np.prod(shape)), MARK_BYTES).reshape(shape)  # (N, H, W, 3)
            rows: list[dict[str, Any]] = []
            if "origins" in job:
                image = kept[0]
                assert image is not None
                cut_tiles(image, job["origins"], (config.height, config.width), pixels)
                del image
                kept = [] if job["last"] else kept
            else:
                images = _images(memory, MARK_BYTES + pixels.nbytes, job["lengths"], job["timeout_s"])
                kept = [None] * len(job["lengths"]) if config.resize == "tile" else []
                rows = list(decode_rows(images, kept or pixels, config, decode))
                faulthandler.cancel_dump_traceback_later()
                del images
            del pixels  # a mapping cannot be closed while an array refers to it
            memory.close()
            _say(responses, json.dumps(rows, default=datetime.isoformat) + "\n")


class MemoryLimit:
    """On the private memory of this process, on Linux: a larger allocation fails. What torch takes when it is imported is added
    to it."""

    def __init__(self, status: BinaryIO | None) -> None:
        self._max_bytes = self._of_torch = 0
        self._status = status

    def set(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = max_bytes + self._of_torch
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        before = self._private_bytes()
        yield
        self._of_torch = self._private_bytes() - before
        self.set(self._max_bytes)

    def _private_bytes(self) -> int:
        """What RLIMIT_DATA counts; 0 where there is no such limit."""
        if self._status is None:
            return 0
        self._status.seek(0)
        return next(int(line.split()[1]) << 10 for line in self._status if line.startswith(b"VmData:"))


@contextlib.contextmanager
def _announced(responses: TextIO, limit: MemoryLimit) -> Iterator[None]:
    _arm(START_TIMEOUT_S + GRACE_S)
    _say(responses, IMPORTING)
    with limit.lifted():
        yield
    _say(responses, READY)


def _arm(seconds: float) -> None:
    """The watchdog: this process ends after so many seconds, of the clock or of processor time."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    sandbox.limit_cpu(seconds)


def _say(responses: TextIO, line: str) -> None:
    responses.write(line)
    responses.flush()


def _images(memory: mmap.mmap, start: int, lengths: list[int], timeout_s: float) -> Iterator[memoryview]:
    """The images where they lie: a copy may be more than the memory that there is, which is then a fault of the image."""
    armed = -REARM_S
    for index, length in enumerate(lengths):
        memory[:MARK_BYTES] = index.to_bytes(MARK_BYTES, "little")
        if time.monotonic() - armed >= REARM_S:  # each arming starts a thread
            armed = time.monotonic()
            _arm(timeout_s + GRACE_S)
        with memoryview(memory) as shared, shared[start : start + length] as image:
            yield image
        start += length
