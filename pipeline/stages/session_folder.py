"""Where Ray keeps its session on this machine: sockets, whose paths must be short, logs, and spilled objects."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.stages.faults import StagesError

SOCKET_BYTES = 107  # the longest path of a Unix socket on Linux; macOS has 3 fewer
LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.9"
LONGEST_FOLDER = SOCKET_BYTES - 3 - len(LONGEST_SOCKET)
SHORT_FOLDERS = (Path("/tmp"), Path("/var/tmp"))
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY = 1 << 30
GIB = 1 << 30


class NoSessionFolder(StagesError):
    """Ray cannot start on this machine: no place for its sockets or for its shared memory."""


class SessionFolder(NamedTuple):
    """folder: holds Ray's sessions.  spill: takes objects that do not fit in memory; None: below the folder.
    objects: folder of the object store; None: shared memory.  lines: remarks on these choices for the user."""

    folder: Path
    spill: Path | None
    objects: Path | None
    lines: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `ray.init`."""
        options: dict[str, Any] = {"_temp_dir": str(self.folder)}
        if self.spill is not None:
            options["object_spilling_directory"] = str(self.spill)
        if self.objects is not None:
            options["_plasma_directory"] = str(self.objects)
        return options


def session_folder(shared_memory: Path = SHARED_MEMORY) -> SessionFolder:
    """Ray's own choice (RAY_TMPDIR, else TMPDIR, else /tmp) when that is short enough, otherwise a short one.

    Raises:
        NoSessionFolder: no short folder can be written, or there is no shared memory.
    """
    wanted = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    folder, spill, lines = wanted, None, []
    if _bytes(wanted) > LONGEST_FOLDER:
        folder, spill = _short(wanted), wanted / "spilled"
        lines.append(
            f"Ray's sockets need a folder of at most {LONGEST_FOLDER} bytes, and {wanted} has {_bytes(wanted)}: "
            f"its session is in {folder}, objects that do not fit in memory are in {spill}"
        )
    for needed in (folder, spill):
        if needed is not None:
            _make(needed)
    objects, line = _object_store(shared_memory, folder)
    return SessionFolder(folder, spill, objects, (*lines, *([line] if line else [])))


def _short(wanted: Path) -> Path:
    for base in SHORT_FOLDERS:
        if os.access(base, os.W_OK | os.X_OK):
            return base / "ray"
    short = " or ".join(map(str, SHORT_FOLDERS))
    raise NoSessionFolder(
        f"TMPDIR must have at most {LONGEST_FOLDER - len('/ray')} bytes, or {short} be writable, "
        f"for Ray's sockets; got {str(wanted.parent)!r}. Let RAY_TMPDIR name a short folder"
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
            file.flush()
    except OSError as error:
        raise NoSessionFolder(
            f"Ray's folder must be one that can be written; got {str(folder)!r} ({error.strerror}). "
            "Let RAY_TMPDIR name another, of at most 30 characters"
        ) from error


def _object_store(shared_memory: Path, folder: Path) -> tuple[Path | None, str | None]:
    """The folder of Ray's objects when they are not in shared memory, and the line that says so."""
    if not shared_memory.is_dir():
        if os.uname().sysname != "Linux":
            return None, None  # Ray does not use it there
        raise NoSessionFolder(
            f"{shared_memory} must exist for Ray's objects; got nothing. Mount it: "
            "mount -t tmpfs tmpfs /dev/shm, or docker run --shm-size=8g"
        )
    free = shutil.disk_usage(shared_memory).free
    if free >= LEAST_SHARED_MEMORY:
        return None, None
    return folder, (
        f"{shared_memory} has {free / GIB:.2f} GiB free, at least 1 GiB is needed: Ray's objects are on disk in {folder}, "
        "which is slower. Give it more: docker run --shm-size=8g"
    )


def _bytes(folder: Path) -> int:
    return len(os.fsencode(folder))
