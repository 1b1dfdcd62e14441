"""The decoder's own process: reads requests from a pipe, images from shared memory, and writes pixels there.

An image that is scored by tiles stays here after decoding; its tiles go back some at a time, as the parent asks for them.

pipeline/decode/sealed.py starts the process, which imports no ray. Before it imports this file it gives up everything that
decoding does not need (pipeline/decode/sandbox.py); its first line names what this machine does not let it give up. It imports
torch with the first picture that pipeline/decode/resize.py gives to torch; it says IMPORTING before and READY after, since no
picture is charged for that time and memory.

It ends when the pipe of its parent closes. When it hangs, a watchdog ends it by the clock or by processor time, even if the
parent is gone. It may hold `max_decode_bytes` of private memory (memory shared with the parent is not counted): an image that
takes more gets an error, and nothing is killed.
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
from collections.abc import Iterator, Sequence
from typing import BinaryIO, TextIO

import numpy as np

from pipeline.decode import resize, sandbox
from pipeline.decode.exchange import DecodedRow, Request, rows_line
from pipeline.decode.geometry import cut_tiles
from pipeline.decode.sealed import START_TIMEOUT_S
from pipeline.decode.unit import decode_rows

MARK_BYTES = 8  # at the start of the shared memory: index of the image that is being decoded
REARM_S = 5.0
READY, IMPORTING = "ready\n", "importing\n"
GRACE_S = 30.0  # after the parent should have ended a hanging decoder itself


def serve(sealed: sandbox.Sealed, request_fd: int, response_fd: int, memory_fd: int, decoder: str) -> None:
    """Answer every request, a line of JSON, with a line of JSON: the columns or the fault of each image. The line before the
    first answer lists the rights that could not be taken away.

    A request with `origins` asks for tiles of the first image of the request before it; its answer is an empty list.

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
            request = Request.of(line)
            config = request.config
            limit.set(config.max_decode_bytes)
            sandbox.limit_cpu(request.timeout_s + GRACE_S)
            memory = mmap.mmap(memory_fd, request.size)
            shape = (request.places, config.height, config.width, 3)
            pixels = np.frombuffer(memory, np.uint8, int(np.prod(shape)), MARK_BYTES).reshape(shape)  # (N, H, W, 3)
            rows: list[DecodedRow] = []
            if request.origins is not None:
                image = kept[0]
                assert image is not None
                cut_tiles(image, request.origins, (config.height, config.width), pixels)
                del image
                kept = [] if request.last else kept
            else:
                images = _images(memory, MARK_BYTES + pixels.nbytes, request.lengths, request.timeout_s)
                kept = [None] * len(request.lengths) if config.resize == "tile" else []
                rows = list(decode_rows(images, kept or pixels, config, decode))
                faulthandler.cancel_dump_traceback_later()
                del images
            del pixels  # a mapping cannot be closed while an array refers to it
            memory.close()
            _say(responses, rows_line(rows))


class MemoryLimit:
    """Limits the private memory of this process, on Linux: a larger allocation fails. The import of torch raises the limit by
    what it takes."""

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
    """The watchdog: ends this process after so many seconds, of the clock or of processor time."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    sandbox.limit_cpu(seconds)


def _say(responses: TextIO, line: str) -> None:
    responses.write(line)
    responses.flush()


def _images(memory: mmap.mmap, start: int, lengths: Sequence[int], timeout_s: float) -> Iterator[memoryview]:
    """The images in place, not copied: a copy that exceeds the memory would count as a fault of the image."""
    armed = -REARM_S
    for index, length in enumerate(lengths):
        memory[:MARK_BYTES] = index.to_bytes(MARK_BYTES, "little")
        if time.monotonic() - armed >= REARM_S:  # each arming starts a thread
            armed = time.monotonic()
            _arm(timeout_s + GRACE_S)
        with memoryview(memory) as shared, shared[start : start + length] as image:
            yield image
        start += length
