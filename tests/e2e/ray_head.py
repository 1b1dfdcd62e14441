"""A Ray head as `ray start --head` makes it, on free ports of this machine, which ends with the test."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

BIN = Path(sys.executable).parent
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
FULL_DISK = {"RAY_local_fs_capacity_threshold": "1"}  # Ray would log that the disk is over 95 % full
NO_KEYS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_CONFIG_FILE": "/none"}


class Head(NamedTuple):
    """Ports of a head at 127.0.0.1: its own, that of the dashboard and that of its Ray client server."""

    gcs: int
    dashboard: int
    client: int

    @property
    def address(self):
        return f"127.0.0.1:{self.gcs}"


@contextlib.contextmanager
def started(folder, environment, cpus=2):
    """A head whose processes, and so whose workers, have this environment and no other variables of AWS or Ray."""
    gcs, dashboard, client, agent = free_ports(4)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    # A folder of its own, since a job's driver looks there for the address of the head that has started it. Its sockets need a
    # short path.
    session = Path(tempfile.mkdtemp(prefix="fs-", dir="/tmp"))
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(BIN / "ray", "start", "--head", "--block", f"--num-cpus={cpus}", "--object-store-memory=300000000"),
                *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
                *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={session}"),
                *("--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"),
            ],
            env={**kept, **FULL_DISK, **environment, "PATH": f"{BIN}:{os.environ['PATH']}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 180
        while not all(answers(port) for port in (gcs, dashboard, client)):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(0.2)
        yield Head(gcs, dashboard, client)
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()  # it would drain for half a minute; SIGINT is ignored in the background of a shell
        for left in psutil.wait_procs(family[1:], timeout=3)[1]:
            left.kill()
        process.wait(timeout=60)
        shutil.rmtree(session, ignore_errors=True)


def free_ports(count):
    """Different ports on which nothing listens."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def answers(port):
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0


def one_line(done, *said):
    """The one line on stderr of a command that ended with 2 before its log began."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    one_error(done, *said)


def one_error(done, *said):
    """The one error of a log that ended with 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    (error,) = [line for line in done.stderr.splitlines() if "error: " in line]
    for text in said:
        assert text in error, error
