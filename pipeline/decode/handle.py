"""The parent's side of the decoder's process: starts it, hands it images, notices when it dies or hangs."""

import contextlib
import mmap
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.decode.child import IMPORTING, MARK_BYTES, READY
from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow, Request, rows_of
from pipeline.decode.sealed import START_TIMEOUT_S, DecoderUnavailable, SealedProcess

SERVING = "pipeline.decode.child"
POLL_S = 0.5
PIPE_BYTES = 1 << 16


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
        self.max_decode_bytes = max_decode_bytes
        self._memory = os.memfd_create("flowscore-decode") if hasattr(os, "memfd_create") else _unlinked_file()
        self._process = SealedProcess(SERVING, decode, max_decode_bytes, self._memory)
        self._requests, self._received = os.fdopen(self._process.requests, "w"), b""
        self._responses = os.fdopen(self._process.responses, "rb", 0)
        self._process.started(self._answer(START_TIMEOUT_S, lambda: 0))

    @property
    def pid(self) -> int:
        return self._process.pid

    def usable(self) -> bool:
        """Whether it runs and belongs to this process (not to the one that this was forked from)."""
        return self._process.usable()

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
        self._process.forget_errors()
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
        how = self._process.died()
        self.end()
        return how

    def end(self) -> None:
        """End the process and close its files."""
        self._process.end()
        for file in (self._requests, self._responses):
            with contextlib.suppress(BrokenPipeError):  # a request that it never read
                file.close()
        with contextlib.suppress(OSError):  # closed already
            os.close(self._memory)

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


def _unlinked_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
