"""A hub that does not answer is said in seconds."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import URLError

import pytest
from huggingface_hub import constants

from models.backbones import hub
from models.backbones.backbone import resolve
from models.backbones.config import BackboneConfig
from models.backbones.hub import check_hub
from models.backbones.weights import BackboneError

SOURCE = {"hf_hub_id": "timm/no-such-network.of_ours"}
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
SAYS = "weights must be reachable; those of 'net' would come from http.*--weights FILE, or --weights none"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that answers everything with 403."""

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def talking(*answers: bytes | None) -> Iterator[str]:
    """An address whose connections get these answers, one each; one of None is kept without a word."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            for answer in answers:
                connection, _ = server.accept()
                if answer is None:
                    kept.append(connection)
                    continue
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=talk, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection in kept:
            connection.close()


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_hub_that_nobody_answers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nobody())
    with pytest.raises(BackboneError, match=SAYS):
        check_hub("net", SOURCE)


def test_a_hub_that_says_nothing_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    with pytest.raises(BackboneError, match=SAYS):
        check_hub("net", SOURCE, answer_s=0.2)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 2", None])
def test_one_fault_on_the_way_is_no_refusal(monkeypatch: pytest.MonkeyPatch, first: bytes | None) -> None:
    with talking(first, FORBIDDEN) as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        check_hub("net", SOURCE, answer_s=3)


def test_what_speaks_no_http_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with talking(b"SSH-2.0-OpenSSH\r\n", b"SSH-2.0-OpenSSH\r\n") as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        with pytest.raises(BackboneError, match=SAYS.replace("http", "http.*SSH-2.0")):
            check_hub("net", SOURCE)


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (ConnectionRefusedError(111, "Connection refused"), 1),
        (OSError(113, "No route to host"), 1),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 2),
        (TimeoutError("timed out"), 2),
    ],
)
def test_only_what_may_pass_is_tried_twice(monkeypatch: pytest.MonkeyPatch, fault: OSError, tries: int) -> None:
    asked = []

    def fail(*_: object, **__: object) -> None:
        asked.append(fault)
        raise URLError(fault)

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(BackboneError, match=SAYS):
        check_hub("net", SOURCE)
    assert len(asked) == tries


def test_any_answer_will_do(monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", refusing)
    check_hub("net", SOURCE)
    check_hub("net", {"url": f"{refusing}/net.pth"})


def test_no_server_is_needed_for_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nobody())
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "/cache/model.safetensors")
    check_hub("net", SOURCE)
    check_hub("net", {"file": "/weights.safetensors"})
    check_hub("net", {})


def test_offline_is_said_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set, and they are not in its cache"):
        check_hub("net", SOURCE)


def test_a_backbone_of_the_hub_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWSCORE_ASSETS", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", nobody())
    monkeypatch.setattr("models.backbones.backbone.timm.create_model", lambda *_, **__: pytest.fail("built"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(BackboneError, match="those of 'resnet18' would come from"):
        resolve(BackboneConfig(name="resnet18"))
    assert hub.ANSWER_S < 5
