"""Addresses at which no Ray cluster answers: said at once, in one line."""

import socket
import threading
import time

import pytest
from own_time import set_time

from pipeline.stages import cluster_address
from pipeline.stages.cluster import start_ray
from pipeline.stages.cluster_address import NoCluster, check_cluster
from pipeline.stages.joining import facts


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """No address from outside, a short wait, and no Ray in this process: an earlier test may have left one running."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    monkeypatch.setattr(cluster_address, "ANSWER_S", 0.5)
    monkeypatch.setattr(facts, "REQUEST_S", 0.5)


@pytest.fixture
def listening():
    """Starts a server that answers every connection with some bytes (None: never); its port."""
    servers = []

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if answer is not None:
                    connection.recv(100)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "localhost:{}/"])
@pytest.mark.parametrize("given", ["flag", "environment"])
def test_nothing_listens(monkeypatch, form, given):
    address = form.format(closed_port())
    field = "address"
    if given == "environment":
        monkeypatch.setenv("RAY_ADDRESS", address)
        address, field = None, "RAY_ADDRESS"
    for check in (check_cluster, start_ray):
        with pytest.raises(NoCluster, match=f"^{field} must be that of a Ray cluster that runs; .*no connection") as caught:
            check(address)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another program than Ray answers"),
        (b"-ERR unknown command\r\n", "another program than Ray answers"),
        (b"", "another program than Ray answers|no connection can be made"),
        (None, "nothing answers within"),
    ],
    ids=["dashboard", "redis", "closes", "silent"],
)
def test_another_program_listens(listening, answer, said):
    with pytest.raises(NoCluster, match=said):
        check_cluster(f"127.0.0.1:{listening(answer)}")


@pytest.mark.parametrize("host", ["head.invalid", "h" * 64, "head..plant"])
def test_a_host_that_there_is_not(host):
    with pytest.raises(NoCluster, match="the host's name is not known"):
        check_cluster(f"{host}:6379")


def test_a_name_server_that_does_not_answer(monkeypatch):
    given_up = threading.Event()

    def silent(*_, **__):
        given_up.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(NoCluster, match="nothing answers within"):
        check_cluster("head:6379")
    given_up.set()


def test_a_server_that_sends_a_byte_now_and_then():
    """Each piece came within the limit."""
    ended = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection:
            for _ in range(20):
                if ended.wait(0.2):
                    return
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        with pytest.raises(NoCluster, match="nothing answers within"):
            check_cluster(f"127.0.0.1:{server.getsockname()[1]}")
        ended.set()


def test_all_steps_share_one_limit(monkeypatch):
    untils, clock = [], cluster_address.time.monotonic

    def asked(host, port, until):
        untils.append(until)
        return facts.ClusterFacts("", "", ())

    monkeypatch.setattr(cluster_address, "_check_speaks", lambda host, port, until: untils.append(until))
    monkeypatch.setattr(cluster_address, "ask_head", asked)
    monkeypatch.setattr(cluster_address, "check_may_join", lambda found, *rest: asked(*rest))
    monkeypatch.setattr(cluster_address, "LIMIT_S", 0.3)  # less than the 0.5 s of the first steps
    before = clock()
    check_cluster("head:6379")
    assert len(set(untils)) == 1 and len(untils) == 3 and before + 0.3 <= untils[0] <= clock() + 0.3


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "An http:// address is that of the dashboard, for `ray job submit` only"),
        (
            "ray://127.0.0.1:10001",
            "Ray Data does not run through a Ray client server: submit it with `ray job submit`",
        ),
        ("https://head/", "An http:// address is that of the dashboard"),
        ("head", "Correct it"),
        ("head:", "Correct it"),
        ("head:0", "Correct it"),
        ("head:70000", "Correct it"),
        ("tcp://head:6379", "Correct it"),
        ("ray:/head:1", "Correct it"),
    ],
)
def test_other_forms_are_refused_with_the_right_ones(address, said):
    with pytest.raises(NoCluster, match=f"must be host:port of the head .*got '{address}'. {said}"):
        check_cluster(address)


@pytest.mark.parametrize("address", [None, "", "local", " "])
def test_nothing_is_asked_where_no_cluster_is_named(address):
    assert check_cluster(address) is None


def test_auto_finds_a_head_that_is_gone(monkeypatch, tmp_path):
    folder = tmp_path / "ray"
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    for check in (check_cluster, start_ray):
        with pytest.raises(NoCluster, match="got 'auto', and none runs on this machine"):
            check("auto")
    (folder / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port()}")
    for check in (check_cluster, start_ray):
        with pytest.raises(NoCluster, match=r"got 'auto', which is 127\.0\.0\.1:\d+, where no connection can be made"):
            check("auto")


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("", "it is empty"), ("0" * 64, None)])
@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8265"])
def test_a_file_of_a_token_that_cannot_be_read(monkeypatch, tmp_path, address, content, why):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    if why is not None:
        with pytest.raises(NoCluster, match=f"RAY_AUTH_TOKEN_PATH must be a file that holds the token .* [(]{why}"):
            check_cluster(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    if address is None:
        assert check_cluster(address) is None
    else:
        with pytest.raises(NoCluster, match="An http:// address"):
            check_cluster(address)


def test_a_server_of_http2_that_is_no_ray_is_given_up(listening):
    port = listening(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]) + bytes(6))
    with pytest.raises(NoCluster, match="the request fails|nothing answers within") as caught:
        check_cluster(f"127.0.0.1:{port}")
    assert "\n" not in str(caught.value)


def test_a_host_that_swallows_packets_costs_one_wait_for_all_of_its_addresses(monkeypatch):
    waits = []

    class Swallowed(socket.socket):
        def settimeout(self, seconds):
            waits.append(seconds)
            super().settimeout(seconds)

        def connect(self, where):
            raise TimeoutError

    many = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 6379))] * 40
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: many)
    monkeypatch.setattr(socket, "socket", Swallowed)
    clock = iter(range(100))
    set_time(monkeypatch, cluster_address, monotonic=lambda: next(clock) / 5)
    with pytest.raises(NoCluster, match="nothing answers within"):
        check_cluster("head:6379")
    assert waits and sum(waits) < 0.5


def test_a_second_address_gets_its_share_of_the_time(monkeypatch, listening):
    """A host may have an IPv6 address that swallows packets."""
    port, connect = listening(b"-ERR unknown command\r\n"), socket.socket.connect

    class Swallowed(socket.socket):
        def connect(self, where):
            if where[0] == "192.0.2.1":
                time.sleep(self.gettimeout())
                raise TimeoutError
            connect(self, where)

    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    monkeypatch.setattr(socket, "socket", Swallowed)
    with pytest.raises(NoCluster, match="another program than Ray answers"):
        check_cluster(f"head:{port}")
