"""A decoder that acts like one that an attacker has taken over: the image names the deed, and the fault says how it went.

tests/pipeline/decode/test_sandbox.py copies it into a new folder, beside a file `secret`, and runs it with and without the
sandbox.
"""

import contextlib
import ctypes
import fcntl
import itertools
import json
import mmap
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE, PARENT = Path(__file__).parent, os.getppid()


def append() -> None:
    with open(HERE / "secret", "a") as file:
        file.write(" ")


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0):  # it unshares nothing, so it succeeds wherever the call is allowed
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def trace() -> None:
    """Attach to a process that does not exist: ESRCH says that the kernel has looked for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace(16, 1 << 30, None, None)
    if ctypes.get_errno() != 3:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def shrink_shared_memory() -> None:
    with contextlib.closing(os.fdopen(os.dup(int(sys.argv[4])), "r+b", 0)) as memory:
        size = os.fstat(memory.fileno()).st_size
        memory.truncate(size)  # another size would end the parent by SIGBUS


DEEDS: dict[str, Callable[[], object]] = {
    "read a file": lambda: Path("/etc/passwd").read_bytes(),
    "read a file of the user": lambda: (HERE / "secret").read_bytes(),
    "list a folder": lambda: os.listdir(HERE),
    "read the variables of the parent": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    "write a file": lambda: (HERE / "written").write_text("x"),
    "append to a file": append,
    "make a folder": lambda: (HERE / "folder").mkdir(),
    "rename a file": lambda: os.replace(HERE / "moved", HERE / "elsewhere"),
    "change who may read a file": lambda: os.chmod(HERE / "secret", 0o644),
    "open an inet socket": lambda: socket.socket(socket.AF_INET).close(),
    "open an inet6 socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
    "open a unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "open a pair of sockets": socket.socketpair,
    "fork": fork,
    "run a program": lambda: subprocess.run([sys.executable, "-S", "-c", ""], check=True),
    "spawn a program": lambda: os.posix_spawn(sys.executable, ["python", "-S", "-c", ""], {}),
    "make a namespace": unshare,
    "signal the parent": lambda: os.kill(PARENT, 0),
    "trace a process": trace,
    "limit the parent": lambda: resource.prlimit(PARENT, resource.RLIMIT_NOFILE),
    "have the parent signalled": lambda: fcntl.fcntl(int(sys.argv[2]), fcntl.F_SETOWN, PARENT),
    "take memory that is not counted": lambda: mmap.mmap(-1, 4096).close(),
    "shrink the shared memory": shrink_shared_memory,
}


def outcome(deed: str) -> str:
    try:
        DEEDS[deed]()
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
    return "done"


def raised_limits() -> dict[str, str]:
    """Try to raise each hard limit by one; returns the error for each."""
    found = {}
    for name in ("DATA", "NOFILE", "FSIZE", "CORE"):
        _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (hard, hard + 1))
        except (ValueError, OSError) as error:
            found[name] = str(error)
    return found


def too_much() -> str:
    """Try to take memory beyond the hard limit, after the soft limit is raised to it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    try:
        return f"{len(bytearray(hard))} bytes"
    except MemoryError:
        return "MemoryError"


def decode(encoded: bytes, config: object) -> object:
    from pipeline.decode import sandbox
    from pipeline.decode.image_file import Undecodable

    match encoded.decode():
        case "variables":
            found: object = dict(os.environ)
        case "raise limits":
            found = raised_limits()
        case "processor time":
            used = resource.getrusage(resource.RUSAGE_SELF)
            found = resource.getrlimit(resource.RLIMIT_CPU)[0] - used.ru_utime - used.ru_stime
        case "too much memory":
            found = too_much()
        case "spin":
            sandbox.limit_cpu(0.1)
            while True:
                pass
        case "lie":
            os.pwrite(int(sys.argv[4]), b"\xff" * 8, 0)
            os._exit(3)
        case "restless":
            for mark in itertools.count():
                os.pwrite(int(sys.argv[4]), mark.to_bytes(8, "little"), 0)
                time.sleep(0.01)
        case "chatter":
            for _ in range(4):
                with contextlib.suppress(OSError):
                    os.write(2, bytes(sandbox.LOG_BYTES))
            found = os.fstat(2).st_size
        case deed:
            found = outcome(deed)
    raise Undecodable("corrupt", json.dumps(found))


if __name__ == "__main__":
    print(json.dumps({deed: outcome(deed) for deed in sys.argv[5:]}))
