"""Checks that a Ray cluster can be joined at an address: Ray waits minutes for one that cannot, and then ends the process."""

import logging
import os
import queue
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.stages.faults import StagesError
from pipeline.stages.joining.facts import MEND, ClusterFacts, NotJoined, ask_head, check_may_join

LIMIT_S = 18.0
"""For all steps of a check together."""

ANSWER_S = 8.0
"""Of it for the first steps: the host's addresses, a connection, and the first bytes from there."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # HTTP/2's opening and empty settings
SETTINGS = 4  # kind of the first frame of an HTTP/2 server, and so of gRPC
FRAME_BYTES = 9
FORM = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s/:\[\]]+)):(?P<port>[0-9]{1,5})/?")
FORMS = "host:port of the head (usually 6379), auto or local"
OTHER_FORMS = {
    "http": "An http:// address is that of the dashboard, for `ray job submit` only",
    "ray://": "Ray Data does not run through a Ray client server: submit it with `ray job submit`, or run it on a node",
}
"""By how an address begins that is none of ours: what to do."""


class NoCluster(StagesError):
    """No Ray cluster can be joined at the address."""


class Joinable(NamedTuple):
    """A cluster that this process may join. address: host:port."""

    address: str
    facts: ClusterFacts


def cluster_address(address: str | None) -> str | None:
    """The cluster to join: `address`, else RAY_ADDRESS; None to start Ray on this machine."""
    chosen = (address or os.environ.get("RAY_ADDRESS") or "").strip()
    return None if chosen in ("", "local") else chosen


def check_cluster(address: str | None) -> Joinable | None:
    """The cluster to join, which has answered; None to start Ray on this machine, or where this process has joined already.

    It takes less than 20 s, whatever is at the address, and joins nothing. Raises NoCluster.
    """
    until = time.monotonic() + LIMIT_S
    _check_token_file()
    chosen = cluster_address(address)
    if chosen is None or _has_joined():
        return None
    field = "address" if address else "RAY_ADDRESS"
    named = _found(field, chosen) if chosen == "auto" else chosen
    form = FORM.fullmatch(named)
    if form is None or not 0 < int(form["port"]) < 65536:
        fix = next((fix for begin, fix in OTHER_FORMS.items() if named.startswith(begin)), "Correct it")
        raise NoCluster(f"{field} must be {FORMS}; got {chosen!r}. {fix}.")
    host, port = form["v6"] or form["host"], int(form["port"])
    try:
        _check_speaks(host, port, min(until, time.monotonic() + ANSWER_S))
        facts = check_may_join(ask_head(host, port, until), host, port, until)
    except NotJoined as error:
        got = repr(chosen) if chosen == named else f"{chosen!r}, which is {named}"
        raise NoCluster(f"{field} must be that of a Ray cluster that runs; got {got}, where {error}. {error.fix}") from error
    return Joinable(named.removesuffix("/"), facts)


def _has_joined() -> bool:
    """Without an import of Ray, which takes a while."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _check_token_file() -> None:
    """Raises NoCluster for a file of a token that Ray cannot read, also where it would start on this machine."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not path or os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return
    try:
        empty = not Path(path).read_bytes().strip()
        why = "it is empty"
    except OSError as error:
        empty, why = True, error.strerror or str(error)
    if empty:
        rule = "a file that holds the token of the cluster"
        raise NoCluster(f"RAY_AUTH_TOKEN_PATH must be {rule}; got {path!r} ({why}). Correct it, or unset it")


def _found(field: str, chosen: str) -> str:
    """What `auto` stands for: a process here or a file of the last `ray start` says where; its head may be gone.

    Raises NoCluster.
    """
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._private.services import get_ray_address_from_environment

    quieted()
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as Ray does for `auto` alone
    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise NoCluster(
            f"{field} must be that of a Ray cluster that runs; got {chosen!r}, and none runs on this machine. {MEND}"
        ) from error


def quieted() -> None:
    """Ray's remarks on how tokens are chosen are left out."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def _check_speaks(host: str, port: int, until: float) -> None:
    """Raises NotJoined unless something that speaks HTTP/2, as gRPC does, answers in time."""
    try:
        with _connected(host, port, until) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):  # only Ray has the certificates to talk further
                return
            connection.settimeout(_left(until))
            connection.sendall(PREFACE)
            answer = b""
            while len(answer) < FRAME_BYTES and (piece := _piece(connection, FRAME_BYTES - len(answer), until)):
                answer += piece
    except socket.gaierror as error:
        raise NotJoined(f"the host's name is not known ({error.strerror})") from error
    except UnicodeError as error:  # a part of the name that is too long, or is empty
        raise NotJoined(f"the host's name is not known ({error})") from error
    except TimeoutError as error:
        raise NotJoined(f"nothing answers within {ANSWER_S:.0f} s") from error
    except OSError as error:
        raise NotJoined(f"no connection can be made ({error.strerror or error})") from error
    if not (len(answer) == FRAME_BYTES and answer[3] == SETTINGS):
        raise NotJoined("another program than Ray answers")


def _connected(host: str, port: int, until: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one, all of them together in time."""
    refused: OSError | None = None
    addresses = _addresses(host, port, until)
    for number, (family, kind, protocol, _, where) in enumerate(addresses):
        share_s = _left(until) / (len(addresses) - number)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(share_s)
            connection.connect(where)
            return connection
        except OSError as error:
            connection.close()
            refused = error
    assert refused is not None  # getaddrinfo gives one address or raises
    raise refused


def _addresses(host: str, port: int, until: float) -> list[Any]:
    """What getaddrinfo gives or raises. It has no limit of time itself, so it runs in a thread that nothing waits for."""
    found: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="flowscore-host-name", daemon=True).start()
    try:
        answer = found.get(timeout=_left(until))
    except queue.Empty as error:
        raise TimeoutError from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _piece(connection: socket.socket, most_bytes: int, until: float) -> bytes:
    connection.settimeout(_left(until))
    return connection.recv(most_bytes)


def _left(until: float) -> float:
    """Seconds that are left. Raises TimeoutError if there are none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
