"""Landlock limits the files that the decoder's process may read. seccomp cannot tell files apart.

Source: Linux's Documentation/userspace-api/landlock.rst. The calls have the same numbers on every processor.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_ONLY, BELOW_PATH = 1, 1  # LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# by version of the kernel's interface, from 1: the number of rights for files, rights for the network, and scopes
RIGHTS = ((13, 0, 0), (14, 0, 0), (15, 0, 0), (15, 2, 0), (16, 2, 0), (16, 2, 2))

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of the kernel's interface; 0 where there is none."""
    return max(0, _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_ONLY)) if sys.platform == "linux" else 0


def restrict(readable: Iterable[Path]) -> None:
    """Let this thread, and threads that it starts, read only these files and what is below these folders, for good.

    Open files stay open; `stat` still works everywhere. It also forbids, as far as the kernel can: TCP, abstract unix
    sockets, signals to other processes. It needs `no_new_privs`. Raises OSError.
    """
    handled = [(1 << count) - 1 for count in RIGHTS[min(version(), len(RIGHTS)) - 1]]
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", *handled), 24)
    size = 8 * max(1, sum(right > 0 for right in handled))  # an older kernel accepts only the fields that it knows
    ruleset = _checked(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    for path in readable:
        rights = READ_FILE | READ_DIR if path.is_dir() else READ_FILE
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, folder), 12)
        _checked(ADD_RULE, ruleset, BELOW_PATH, rule, 0)
        os.close(folder)
    _checked(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _checked(number: int, *arguments: object) -> int:
    found = _libc.syscall(number, *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"the kernel refuses a Landlock rule: {os.strerror(ctypes.get_errno())}")
    return int(found)
