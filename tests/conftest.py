"""Fixtures for all tests: an S3 server (Ceph's RADOS gateway, or moto's server if Ceph is not available) and its buckets."""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

CEPH = Path(__file__).parent / "s3" / "ceph.sh"
NOT_TO_BE_HAD = 3  # exit status of ceph.sh
PORTS = 3  # the gateway's and the monitor's two, in a row

stand_in = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of tests/chaos and tests/histories. They stand here because pytest asks for options before it knows those."""
    parser.addoption("--chaos-points", type=int, default=100, help="how many fault points")
    parser.addoption("--chaos-seed", type=int, default=0, help="which ones")
    parser.addoption("--chaos-report", type=Path, help="CSV file with a line for each")
    parser.addoption("--histories", type=int, default=10, help="how many histories")
    parser.addoption("--s3-histories", type=int, default=1, help="how many of them once more, on an S3 server")
    parser.addoption("--histories-seed", type=int, default=0, help="the seed of the first")


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    """Torch has as many threads for the next test as for this one: the last bits of a fit, and what it can go on from, depend
    on them."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None and sys.modules["torch"].get_num_threads() != before:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> Iterator[str]:
    """Endpoint of an S3 server that runs for the session; the AWS environment variables point to it."""
    port = _free_ports()
    folder = Path(tempfile.gettempdir()) / f"fs-s3-{os.getpid()}"
    started = subprocess.run(
        ["bash", CEPH, "up", folder, str(port), str(os.getpid())], capture_output=True, text=True, timeout=600
    )
    moto = None
    if started.returncode == NOT_TO_BE_HAD:
        request.config.stash[stand_in] = f"S3 tests ran on moto's server, not on Ceph: {started.stderr.strip()}"
        moto = _start_moto(port)
    elif started.returncode:
        log = (folder / "client.rgw.log").read_text()[-2000:] if folder.exists() else ""
        shutil.rmtree(folder, ignore_errors=True)
        pytest.fail(f"Ceph did not start (exit {started.returncode}): {started.stderr}\n{log}")
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testtest",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, setting in settings.items():
            patch.setenv(name, setting)
        yield settings["AWS_ENDPOINT_URL"]
    if moto:
        moto.terminate()
        moto.wait()
    subprocess.run(["bash", CEPH, "down", folder], check=True, timeout=60)


@pytest.fixture
def s3_bucket(s3: str) -> str:
    """URI of a new, empty bucket."""
    return new_bucket()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty place: a test that takes it runs on a local directory and on S3."""
    if request.param == "local":
        (tmp_path / "place").mkdir()
        return str(tmp_path / "place")
    request.getfixturevalue("s3")
    return f"{new_bucket()}/some/prefix"


@pytest.fixture(scope="module", params=["local", "s3"])
def module_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Like `place`, but shared by all tests of a file."""
    if request.param == "local":
        return str(tmp_path_factory.mktemp("place"))
    request.getfixturevalue("s3")
    return f"{new_bucket()}/some/prefix"


def new_bucket(endpoint: str | None = None) -> str:
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    botocore.session.get_session().create_client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if stand_in in config.stash:
        terminalreporter.write_line(config.stash[stand_in])


def _free_ports() -> int:
    for _ in range(100):
        first = random.randint(20000, 32000)  # below the ports that the system assigns by itself
        sockets = [socket.socket() for _ in range(PORTS)]
        try:
            for offset, candidate in enumerate(sockets):
                candidate.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for candidate in sockets:
                candidate.close()
    raise RuntimeError("no three free ports in a row")


def _start_moto(port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(240):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.25)
    server.terminate()
    raise RuntimeError("moto's server did not start within 60 s")
