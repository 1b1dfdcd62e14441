"""Limits the decoder's process to decoding, so that a picture which exploits its libraries can do no more.

It seals itself before it imports anything else. It keeps the pipes and files that it was given and may read the Python
installation, from which torch and parts of Pillow are imported when a picture first needs them. It cannot read or write other
files, open a socket, start a process, signal or trace another one, or take back what it gave up. docs/operating.md says
which kernel each limit needs.

RLIMIT_NPROC stays unset: it counts the threads of the user, not of the process, and does not hold for root.
"""

import ctypes
import importlib
import importlib.util
import math
import os
import platform
import resource
import struct
import sys
import sysconfig
import zoneinfo
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.decode import landlock, seccomp

IMPORT_BYTES = 4 << 30  # what the import of torch may take beyond what pictures may
OPEN_FILES = 64  # an import opens a few at once
LOG_BYTES = 1 << 20  # limit of a file; the only one is standard error, as the shared memory is written through its mapping
NAME = b"flowscore-pict"  # 15 characters at most
NO_NEW_PRIVILEGES, SET_NAME = 38, 15  # PR_SET_NO_NEW_PRIVS, PR_SET_NAME
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITIES_VERSION = 0x20080522
OURS = ("pipeline", "models", "schemas")
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/etc/ld.so.cache")
DEVICES = ("/proc/cpuinfo", "/sys/devices/system/cpu", "/dev/urandom")  # torch reads the first two to learn the instruction set


class Sealed(NamedTuple):
    """missing: what this kernel cannot take away, in words.  status: file of this process, on Linux; cannot be opened later."""

    missing: list[str]
    status: BinaryIO | None


def seal(max_decode_bytes: int, decoder: str) -> Sealed:
    """Give up, for good, what decoding does not need. No other thread may run: Landlock would not bind it.

    Args:
        max_decode_bytes: the most memory that any picture of this process may take.
        decoder: `module:function` that will be imported.
    Raises OSError when the kernel refuses what it should support.
    """
    for limit, hard in (
        (resource.RLIMIT_DATA, max_decode_bytes + IMPORT_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, LOG_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _lower(limit, hard)
    if sys.platform != "linux":
        missing = [f"system calls ({sys.platform} has no seccomp)", f"which files it reads ({sys.platform} has no Landlock)"]
        return Sealed(missing, None)
    status = open("/proc/self/status", "rb", 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(SET_NAME, NAME)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refuses no_new_privs")
    missing = []
    if platform.machine() in CAPSET:
        header, none = struct.pack("=Ii", CAPABILITIES_VERSION, 0), bytes(24)  # root has capabilities, others have none
        if libc.syscall(CAPSET[platform.machine()], header, none):
            raise OSError(ctypes.get_errno(), "the kernel refuses to take capabilities away")
    if landlock.version():
        landlock.restrict(readable(decoder))
    else:
        missing.append("which files it reads (the kernel has no Landlock)")
    if not seccomp.supported():
        return Sealed([*missing, f"system calls (there is no filter for {platform.machine()})"], status)
    try:
        seccomp.restrict()
    except OSError as error:  # a kernel without seccomp, a container that forbids it
        missing.append(f"system calls ({error.strerror})")
    return Sealed(missing, status)


def limit_cpu(seconds: float) -> None:
    """End this process by SIGXCPU once it has used this many more seconds of processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def readable(decoder: str) -> list[Path]:
    """Files and folders of Python, its packages and libraries, this program's code, the decoder's code, and time zones."""
    module = importlib.util.find_spec(decoder.partition(":")[0])
    packages = [Path(module.origin)] if module is not None and module.origin is not None else []
    # imported now: their folder, which may be a user's, cannot be listed later
    packages += [Path(folder) for name in OURS for folder in importlib.import_module(name).__path__]
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        packages.append(Path(torch.origin).parents[1 if torch.submodule_search_locations else 0])
    packages += [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    packages += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries = [Path(prefix) / name for prefix in {sys.prefix, sys.base_prefix} for name in ("lib", "lib64")]
    libraries += [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry]
    found = [*packages, *libraries, *map(Path, (*LIBRARIES, *DEVICES, *zoneinfo.TZPATH))]
    return sorted({path.resolve() for path in found if path.is_absolute() and path.exists()})


def _lower(limit: int, hard: int) -> None:
    soft_before, hard_before = resource.getrlimit(limit)
    hard = hard if hard_before == resource.RLIM_INFINITY else min(hard, hard_before)
    soft = hard if soft_before == resource.RLIM_INFINITY else min(soft_before, hard)
    resource.setrlimit(limit, (soft, hard))
