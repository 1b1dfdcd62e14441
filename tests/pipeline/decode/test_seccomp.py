"""The filter, run here as the kernel would, for both processors. tests/pipeline/decode/test_sandbox.py has the kernel do it."""

import errno
import struct

import pytest

from pipeline.decode.seccomp import PROCESSORS, program

PID = 4711
ALLOWED, NOT_SO, UNKNOWN = "allowed", errno.EPERM, errno.ENOSYS
CREATE, WRITE, THREAD, SHARED, ANONYMOUS = 0o100, 0o1, 0x10000, 1, 0x20

# call: its number on x86-64 and aarch64, its arguments, what becomes of it
CALLS = {
    "read": (0, 63, (3, 0, 1), ALLOWED),
    "exit_group": (231, 94, (0,), ALLOWED),
    "openat, to read": (257, 56, (0, 0, 0o2000000), ALLOWED),
    "openat, to write": (257, 56, (0, 0, WRITE), NOT_SO),
    "openat, to read and create": (257, 56, (0, 0, CREATE), NOT_SO),
    "openat2": (437, 437, (0, 0), UNKNOWN),
    "mmap of a file": (9, 222, (0, 0, 3, SHARED), ALLOWED),
    "mmap of memory": (9, 222, (0, 0, 3, 2 | ANONYMOUS), ALLOWED),
    "mmap of shared memory": (9, 222, (0, 0, 3, SHARED | ANONYMOUS), NOT_SO),
    "clone, a thread": (56, 220, (THREAD | 0x100,), ALLOWED),
    "clone, a process": (56, 220, (17,), NOT_SO),
    "clone3": (435, 435, (0,), UNKNOWN),
    "kill itself": (62, 129, (PID, 9), ALLOWED),
    "kill another": (62, 129, (PID - 1, 9), NOT_SO),
    "kill the group": (62, 129, ((-PID) % (1 << 64), 9), NOT_SO),
    "kill all": (62, 129, ((1 << 64) - 1, 9), NOT_SO),
    "prlimit64 of itself": (302, 261, (0, 2), ALLOWED),
    "prlimit64 of another": (302, 261, (PID - 1, 2), NOT_SO),
    "fcntl F_GETFL": (72, 25, (3, 3), ALLOWED),
    "fcntl F_SETOWN": (72, 25, (3, 8), NOT_SO),
    "ioctl TIOCSTI": (16, 29, (0, 0x5412), NOT_SO),
    "prctl PR_SET_DUMPABLE": (157, 167, (4, 1), NOT_SO),
    "socket": (41, 198, (2, 1), UNKNOWN),
    "execve": (59, 221, (), UNKNOWN),
    "ptrace": (101, 117, (16, 1), UNKNOWN),
    "ftruncate": (77, 46, (3, 0), UNKNOWN),
    "io_uring_setup": (425, 425, (1,), UNKNOWN),
    "process_vm_readv": (310, 270, (1,), UNKNOWN),
    "pidfd_open": (434, 434, (1,), UNKNOWN),
    "open_by_handle_at": (304, 265, (1,), UNKNOWN),
    "a call of a later kernel": (999, 999, (), UNKNOWN),
}


def run(code, processor, number, arguments):
    """What the filter says of a call: ALLOWED or an errno."""
    seen = struct.pack("<IIQ6Q", number, processor, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", code))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", seen, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x06:
                return ALLOWED if operand == 0x7FFF0000 else operand - 0x50000


@pytest.mark.parametrize("machine", PROCESSORS)
@pytest.mark.parametrize("call", CALLS)
def test_what_becomes_of_a_call(machine, call):
    *numbers, arguments, wanted = CALLS[call]
    processor, column = PROCESSORS[machine]
    assert run(program(machine, PID), processor, numbers[column - 1], arguments) == wanted


@pytest.mark.parametrize(("machine", "other"), [("x86_64", 0x40000003), ("x86_64", 0xC00000B7), ("aarch64", 0x40000028)])
def test_calls_of_another_processors_numbers_are_refused(machine, other):
    """A 32-bit call on a 64-bit kernel: its number 0 would be another call."""
    assert run(program(machine, PID), other, 0, ()) == UNKNOWN


def test_calls_of_x32_are_refused():
    assert run(program("x86_64", PID), PROCESSORS["x86_64"][0], 0x40000000 | 1, ()) == UNKNOWN
