"""A proxy in front of an S3 server that causes one fault at one request, and records every request.

Clients sign the host that they talk to, so the proxy passes requests on unchanged, headers included, and the server accepts
them as its own. Every client of a run uses it: botocore, obstore, the Delta writer and s3fs.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = (
    *("kill_before", "kill_after", "drop", "drop_answer", "delay", "close_in_body", "reset_in_body", "short"),
    *("403", "404", "429", "500", "503", "500_after"),
)
DELAY_S = 0.3
CODES = {403: "AccessDenied", 404: "NoSuchKey", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
NOT_HANDED_ON = {"transfer-encoding", "connection", "keep-alive", "content-length"}


@dataclass(frozen=True)
class Fault:
    """What happens at the requests number `at` to `at + times - 1`, counted from 0.

    kill_before, kill_after: the victim dies before the server sees the request, or after the server answers but before the
    victim hears it. drop, drop_answer: the connection ends before the server sees the request, or after it has answered.
    delay: the answer comes 0.3 s late. close_in_body, reset_in_body: half of the answer's body comes, then the connection
    ends, orderly or not. short: half of the body comes, and the length claims that this is all. 403 to 503: the proxy
    answers with that status, without the server. 500_after: it does so after the server has fulfilled the request. harm: the
    victim is harmed, then the request goes on. writes: only requests that change something count.
    """

    kind: str
    at: int
    times: int = 1
    writes: bool = False

    def __str__(self) -> str:
        return f"{self.kind}-at-{self.at}" + (f"-times-{self.times}" if self.times > 1 else "")


class Request(NamedTuple):
    """One request as it passed. key: of the object, or the prefix of a listing, with the bucket. status: 0 if the client
    got none from the server. done: whether the server fulfilled the request. sent: bytes of the answer's body."""

    number: int
    method: str
    key: str
    listing: bool
    range: str
    status: int
    done: bool
    fault: str | None
    sent: int = 0


@dataclass
class Passed:
    """The requests since `arm`, in the order in which they came."""

    requests: list[Request] = field(default_factory=list)
    count: int = 0
    struck: int = 0


class FaultProxy:
    """A context manager. `url` is the endpoint for clients; `arm` sets the fault and forgets the requests so far."""

    def __init__(self, upstream: str) -> None:
        target = urlsplit(upstream)
        assert target.hostname is not None and target.port is not None
        self.upstream = (target.hostname, target.port)
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._harm: Callable[[], None] = lambda: None
        self._passed = Passed()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, name="fault-proxy", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(self, fault: Fault | None = None, harm: Callable[[], None] = lambda: None) -> None:
        """Set the fault, counted from the next request. A kill calls `harm`, which returns once the harm is done."""
        with self._lock:
            self._fault, self._harm, self._passed = fault, harm, Passed()

    @property
    def passed(self) -> list[Request]:
        """The requests since `arm`, in the order of the answers."""
        with self._lock:
            return list(self._passed.requests)

    @property
    def struck(self) -> int:
        """How many requests the fault has struck since `arm`."""
        with self._lock:
            return self._passed.struck

    def next(self, method: str) -> tuple[int, str | None]:
        """Number the new request, and say which fault strikes it."""
        with self._lock:
            fault = self._fault
            if fault is not None and fault.writes and method in ("GET", "HEAD"):
                return self._passed.count, None
            number = self._passed.count
            self._passed.count += 1
            if fault is None or not fault.at <= number < fault.at + fault.times:
                return number, None
            self._passed.struck += 1
            return number, fault.kind

    def write_down(self, request: Request) -> None:
        with self._lock:
            self._passed.requests.append(request)

    def harm(self) -> None:
        self._harm()

    def answered(self, content: bytes) -> bytes:
        """What the client is told in place of the answer's body."""
        return content


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        _server: HTTPConnection | None = None

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError, TimeoutError):  # the client is gone
                super().handle()

        def finish(self) -> None:
            if self._server is not None:
                self._server.close()
            with contextlib.suppress(ConnectionError):
                super().finish()

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            number, kind = proxy.next(self.command)
            if kind in ("kill_before", "harm"):
                proxy.harm()
            if kind in ("kill_before", "drop"):
                self._note(number, kind, 0, done=False)
                self._hang_up()
            elif kind is not None and kind.isdigit():
                self._note(number, kind, int(kind), done=False)
                self._refuse(int(kind))
            else:
                self._answer(number, kind, body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def _answer(self, number: int, kind: str | None, body: bytes) -> None:
            status, headers, content = self._ask(body)
            content = proxy.answered(content)
            self._note(number, kind, status, done=status < 300, sent=len(content))
            if kind == "kill_after":
                proxy.harm()
            if kind in ("kill_after", "drop_answer"):
                return self._hang_up()
            if kind == "500_after":
                return self._refuse(500)
            if kind == "delay":
                time.sleep(DELAY_S)
            sent = content[: len(content) // 2] if kind in ("short", "close_in_body", "reset_in_body") else content
            length = len(sent if kind == "short" else content)
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in NOT_HANDED_ON:
                    self.send_header(name, value)
            given = next((value for name, value in headers if name.lower() == "content-length"), None)
            self.send_header("Content-Length", given if self.command == "HEAD" and given else str(length))
            self.end_headers()
            self.wfile.write(sent)
            if len(sent) < length:
                self._hang_up(reset=kind == "reset_in_body")

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            """The server's answer. If the server has closed the kept connection, the request is sent again on a new one."""
            for fresh in (False, True):
                if self._server is None or fresh:
                    self._server = HTTPConnection(*proxy.upstream, timeout=60)
                try:
                    self._server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in ("expect", "connection"):
                            self._server.putheader(name, value)
                    self._server.endheaders(body or None)
                    answer = self._server.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                except (HTTPException, OSError):
                    self._server.close()
                    if fresh:
                        raise
            raise AssertionError("unreachable")

        def _refuse(self, status: int) -> None:
            text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{CODES[status]}</Code><Message>chaos</Message></Error>"
            content = b"" if self.command == "HEAD" else text.encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _hang_up(self, reset: bool = False) -> None:
            self.close_connection = True
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with contextlib.suppress(OSError):
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

        def _note(self, number: int, kind: str | None, status: int, done: bool, sent: int = 0) -> None:
            target = urlsplit(self.path)
            query = parse_qs(target.query)
            listing = self.command == "GET" and ("list-type" in query or "prefix" in query)
            key = unquote(target.path.lstrip("/")) + (f"/{query['prefix'][0]}" if "prefix" in query else "")
            wanted = self.headers.get("Range", "")
            proxy.write_down(Request(number, self.command, key, listing, wanted, status, done, kind, sent))

    return Handler
