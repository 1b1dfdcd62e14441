"""The parent's side of the parser's process: starts it, serves it bytes of the file, notices when it dies or hangs."""

import contextlib
import fcntl
import os
import select
import time

from pipeline.decode.sealed import START_TIMEOUT_S, SealedProcess
from pipeline.input.faults import InputError
from pipeline.input.parquet.exchange import Answer, Cells, Close, Failed, Open, Opened, Read, Request, answer_of, line_of
from pipeline.storage.ranged import RangedFile

SERVING = "pipeline.input.parquet.child"
TIMEOUT_S = 60.0  # of the parser's own time for one answer; that of storage is not counted
PIPE_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
READS_OF_A_FILE = 4  # bytes that one answer may ask for, in sizes of the file
OUT_OF_MEMORY = ("bad_alloc", "cannot allocate memory", "out of memory")


class Unparsable(InputError):
    """A Parquet file, or rows of it, cannot be parsed: rows in `errors` with this error.

    ended: the process died of it or hung.  by_kill: SIGKILL ended it, which comes from outside.
    """

    def __init__(self, error: str, message: str, ended: bool = False, by_kill: bool = False):
        super().__init__(message)
        self.error, self.ended, self.by_kill = error, ended, by_kill


class Parser:
    """One parser process and its pipes."""

    def __init__(self, parse: str, max_bytes: int):
        self.parse, self.max_bytes = parse, max_bytes
        self._received, self._left_s = bytearray(), START_TIMEOUT_S
        self._process = SealedProcess(SERVING, parse, max_bytes)
        self.pid = self._process.pid
        self._closed = False
        for pipe in (self._process.requests, self._process.responses):
            os.set_blocking(pipe, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with contextlib.suppress(OSError):  # the user has too many of that size
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            first = self._line()
        except _Ended:
            first = b""
        self._process.started(first.decode())

    def usable(self) -> bool:
        """Whether it runs and belongs to this process (not to the one that this was forked from)."""
        return not self._closed and self._process.usable()

    def ask(self, request: Request, file: RangedFile, max_cell_bytes: int) -> tuple[Opened | Cells, memoryview]:
        """The answer, and the bytes that follow it.

        Raises Unparsable, and what the file raises. The process may be gone after each.
        """
        self._process.forget_errors()
        self._left_s, left_bytes = TIMEOUT_S, READS_OF_A_FILE * file.size + 1
        left_reads = 1000 + file.size // 1024
        try:
            self._send(line_of(request))
            while True:
                answer = self._answer()
                if not isinstance(answer, Read):
                    break
                left_bytes, left_reads = left_bytes - answer.length, left_reads - 1
                if answer.offset + answer.length > file.size or left_bytes < 0 or left_reads < 0:
                    raise _Ended("it asked for what is not in the file")
                try:
                    file.seek(answer.offset)
                    body = file.read(answer.length)
                except BaseException:  # it still waits for these bytes: no other request can be made
                    self.end()
                    raise
                self._send(body)
            if isinstance(answer, Failed):
                if answer.error == "too_much_memory":  # it might keep what it got
                    self.end()
                raise Unparsable(answer.error, answer.message)
            sizes = answer.sizes if isinstance(answer, Cells) and answer.length else []
            length = sum(size for size in sizes if size is not None and size <= max_cell_bytes)
            said = answer.length if isinstance(answer, Cells) else 0
            if said != length or isinstance(request, Open) != isinstance(answer, Opened):
                raise _Ended("its answer is none")
            return answer, memoryview(self._bytes(length))
        except _Ended as ended:
            raise self._lost(ended) from None

    def close_file(self) -> None:
        """An idle process keeps no pages."""
        try:
            self._send(line_of(Close()))
        except _Ended as ended:
            self._lost(ended)

    def end(self) -> str:
        """End the process and close its pipes; returns how it ended."""
        return self._close(self._process.end())

    def _close(self, how: str) -> str:
        if not self._closed:
            self._closed = True
            os.close(self._process.requests)
            os.close(self._process.responses)
        return how

    def _lost(self, ended: "_Ended") -> Unparsable:
        if ended.reason:
            self.end()
            error = "decoder_timeout" if ended.timeout else "decoder_crashed"
            return Unparsable(error, f"the parser of Parquet failed at it: {ended.reason}", True)
        how = self._close(self._process.died())
        if any(words in self._process.last_words.lower() for words in OUT_OF_MEMORY):
            return Unparsable("too_much_memory", "parsing it takes more memory than the parser may have", True)
        return Unparsable("decoder_crashed", f"the parser's process died of it ({how})", True, how == "SIGKILL")

    def _answer(self) -> Answer:
        try:
            return answer_of(self._line())
        except (ValueError, TypeError, RecursionError) as error:
            raise _Ended("its answer is none") from error

    def _line(self) -> bytes:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > MAX_LINE_BYTES:
                raise _Ended("its answer is too long")
            self._wait(self._process.responses, select.POLLIN)
            piece = os.read(self._process.responses, PIPE_BYTES)
            if not piece:
                raise _Ended("")
            self._received += piece
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line

    def _bytes(self, length: int) -> bytearray:
        found = bytearray(length)
        filled = min(length, len(self._received))
        found[:filled] = self._received[:filled]
        del self._received[:filled]
        with memoryview(found) as view:
            while filled < length:
                self._wait(self._process.responses, select.POLLIN)
                count = os.readv(self._process.responses, [view[filled:]])
                if not count:
                    raise _Ended("")
                filled += count
        return found

    def _send(self, content: bytes) -> None:
        sent = 0
        with memoryview(content) as view:
            while sent < len(content):
                self._wait(self._process.requests, select.POLLOUT)
                try:
                    sent += os.write(self._process.requests, view[sent:])
                except BrokenPipeError:
                    raise _Ended("") from None

    def _wait(self, pipe: int, event: int) -> None:
        """Until there is something to read or room to write; counts the time."""
        poll = select.poll()
        since = time.monotonic()
        poll.register(pipe, event)
        ready = poll.poll(max(0, round(self._left_s * 1000)))
        self._left_s -= time.monotonic() - since
        if not ready:
            raise _Ended(f"it took longer than {TIMEOUT_S:g} s", True)


class _Ended(Exception):
    """The conversation cannot go on. reason: empty when the process died by itself."""

    def __init__(self, reason: str, timeout: bool = False):
        super().__init__(reason)
        self.reason, self.timeout = reason, timeout
