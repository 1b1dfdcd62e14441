"""A seccomp filter limits the decoder's process to memory, threads of its own, and reading files.

The filter is a list of what is allowed. Everything else (sockets, other processes, signals to them, whatever a later kernel
adds) fails with ENOSYS, upon which the C library takes another way if it has one. A call that is allowed only in some forms
fails with EPERM in the others.

Sources: Linux's Documentation/userspace-api/seccomp_filter.rst; numbers from its arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

# name x86-64 aarch64; "-": this processor has no such call
ALLOWED = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62, close 3 57, fadvise64 221 223
stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -
faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents64 217 61, getcwd 79 17
munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, mincore 27 232, membarrier 324 283
futex 202 98, set_robust_list 273 99, rseq 334 293, exit 60 93, exit_group 231 94, sched_yield 24 124
sched_getaffinity 204 123, sched_get_priority_max 146 125, sched_get_priority_min 147 126
getcpu 309 168, restart_syscall 219 128
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132
nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72
getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177
getrandom 318 278, uname 63 160, sysinfo 99 179, getrusage 98 165, times 100 153, getrlimit 97 163, setrlimit 160 164
"""
CONDITIONAL = "open 2 -, openat 257 56, mmap 9 222, clone 56 220, kill 62 129, tgkill 234 131, prlimit64 302 261, fcntl 72 25"
CONDITIONAL += ", ioctl 16 29, prctl 157 167"

PROCESSORS = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}  # AUDIT_ARCH_*, column in the lists above
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER_AT, PROCESSOR_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
ALLOW, FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
SET_MODE_FILTER, ALL_THREADS = 1, 1  # SECCOMP_FILTER_FLAG_TSYNC
SECCOMP = {"x86_64": 317, "aarch64": 277}  # the number of seccomp() itself
WORD = 0xFFFFFFFF


class Form(NamedTuple):
    """A call is allowed when the low half of its argument, masked, has this value."""

    argument: int
    mask: int
    value: int


def supported() -> bool:
    """Whether there is a filter for this system; the kernel may still refuse it."""
    return sys.platform == "linux" and platform.machine() in PROCESSORS and sys.maxsize > 1 << 32


def forms(pid: int) -> dict[str, list[Form]]:
    """The forms in which the conditional calls are allowed, for the process `pid`."""
    written = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
    shared, anonymous = 0x01, 0x20  # both at once would give memory that RLIMIT_DATA does not count
    thread, isatty, set_name = 0x10000, 0x5401, 15  # CLONE_THREAD, TCGETS, PR_SET_NAME
    get_or_set_flags, duplicate = 0x03, 1030  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL; F_DUPFD_CLOEXEC
    return {
        "open": [Form(1, written, os.O_RDONLY)],
        "openat": [Form(2, written, os.O_RDONLY)],
        "mmap": [Form(3, shared | anonymous, value) for value in (0, shared, anonymous)],
        "clone": [Form(0, thread, thread)],
        "kill": [Form(0, WORD, pid)],
        "tgkill": [Form(0, WORD, pid)],
        "prlimit64": [Form(0, WORD, 0)],
        "fcntl": [Form(1, WORD & ~get_or_set_flags, 0), Form(1, WORD, duplicate)],
        "ioctl": [Form(1, WORD, isatty)],
        "prctl": [Form(0, WORD, set_name)],
    }


def program(machine: str, pid: int) -> bytes:
    """The filter for `platform.machine()` and this process, as instructions of struct sock_filter."""
    processor, column = PROCESSORS[machine]
    plain, conditional = _numbers(ALLOWED, column), _numbers(CONDITIONAL, column)
    found = [_do(LOAD, PROCESSOR_AT), _do(EQUAL, processor, 1, 0), _do(RETURN, FAIL | errno.ENOSYS), _do(LOAD, NUMBER_AT)]
    for number in plain.values():
        found += [_do(EQUAL, number, 0, 1), _do(RETURN, ALLOW)]
    for name, allowed in forms(pid).items():
        if name not in conditional:
            continue
        body = []
        for form in allowed:
            body += [_do(LOAD, ARGUMENTS_AT + 8 * form.argument), _do(AND, form.mask)]  # the low half comes first on both
            body += [_do(EQUAL, form.value, 0, 1), _do(RETURN, ALLOW)]
        body.append(_do(RETURN, FAIL | errno.EPERM))
        found += [_do(EQUAL, conditional[name], 0, len(body)), *body]
    return b"".join([*found, _do(RETURN, FAIL | errno.ENOSYS)])


def restrict() -> None:
    """Put the filter on every thread of this process, for good. It needs `no_new_privs`. Raises OSError."""
    code = ctypes.create_string_buffer(program(platform.machine(), os.getpid()))
    length = (len(code) - 1) // 8
    fprog = ctypes.create_string_buffer(struct.pack("@HP", length, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SECCOMP[platform.machine()], SET_MODE_FILTER, ALL_THREADS, fprog):
        raise OSError(ctypes.get_errno(), f"the kernel refuses the seccomp filter: {os.strerror(ctypes.get_errno())}")


def _numbers(calls: str, column: int) -> dict[str, int]:
    split = [call.split() for call in calls.strip().replace("\n", ", ").split(", ")]
    return {words[0]: int(words[column]) for words in split if words[column] != "-"}


def _do(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
