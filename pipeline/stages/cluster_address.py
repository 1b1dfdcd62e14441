"""Checks that a Ray cluster answers at an address: Ray waits two minutes for a dead one, and then ends the process."""

import os
import re
import socket

from pipeline.stages.faults import StagesError

ANSWER_S = 10.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # HTTP/2's opening and empty settings
SETTINGS = 4  # kind of the first frame of an HTTP/2 server, and so of gRPC
FRAME_BYTES = 9
FORM = re.compile(r"(?:ray://)?(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s/:\[\]]+)):(?P<port>[0-9]{1,5})/?")
FORMS = "host:port of the head (usually 6379), ray://host:port of a Ray client server (usually 10001), auto or local"


class NoCluster(StagesError):
    """No Ray cluster answers at the address."""


def cluster_address(address: str | None) -> str | None:
    """The cluster to join: `address`, else RAY_ADDRESS; None to start Ray on this machine."""
    chosen = (address or os.environ.get("RAY_ADDRESS") or "").strip()
    return None if chosen in ("", "local") else chosen


def check_cluster(address: str | None) -> None:
    """Raises NoCluster unless something that speaks Ray's protocol listens at the address. It skips the check for `auto`
    and without an address."""
    chosen = cluster_address(address)
    if chosen in (None, "auto"):
        return
    field = "address" if address else "RAY_ADDRESS"
    found = FORM.fullmatch(chosen)
    if found is None or not 0 < int(found["port"]) < 65536:
        fix = "An http:// address is that of the dashboard, for `ray job submit` only" if "http" in chosen else "Correct it"
        raise NoCluster(f"{field} must be {FORMS}; got {chosen!r}. {fix}.")
    host, port = found["v6"] or found["host"], int(found["port"])
    fault = _fault(host, port)
    if fault is not None:
        raise NoCluster(
            f"{field} must be that of a Ray cluster that runs; got {chosen!r}, where {fault}. "
            "Start the cluster, correct the address, or leave it out to score on this machine"
        )


def _fault(host: str, port: int) -> str | None:
    try:
        with socket.create_connection((host, port), ANSWER_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":  # only Ray has the certificates to talk further
                return None
            connection.settimeout(ANSWER_S)
            connection.sendall(PREFACE)
            answer = b""
            while len(answer) < FRAME_BYTES and (piece := connection.recv(FRAME_BYTES - len(answer))):
                answer += piece
    except socket.gaierror as error:
        return f"the host's name is not known ({error.strerror})"
    except TimeoutError:
        return f"nothing answers within {ANSWER_S:.0f} s"
    except OSError as error:
        return f"no connection can be made ({error.strerror or error})"
    speaks = len(answer) == FRAME_BYTES and answer[3] == SETTINGS
    return None if speaks else "another program than Ray answers"
