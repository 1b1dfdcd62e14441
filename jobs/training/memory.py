"""How much memory this process has taken at most, and how much it can have on this machine."""

import contextlib
import re
from pathlib import Path

import psutil

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def forget_peak() -> None:
    """From now on the peak is the largest since now; where the system does not allow that, it stays that of the whole life."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def peak_bytes() -> int:
    """The largest resident memory, with pages of mapped files, which the system drops when others need the room."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else psutil.Process().memory_info().rss


def room_bytes(limit: Path = GROUP_LIMIT) -> int:
    """What the process can have in all: what it has, and what is available on the machine, within a container's limit."""
    room = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    text = limit.read_text().strip() if limit.exists() else "max"
    return room if text == "max" else min(room, int(text))
