"""The errors of the commands, the tree of all our exceptions, and the exit code that each one ends a command with.

CommandError              jobs
    UsageError            a setting that cannot work, found before anything is started
    ConfigError           a setting that is missing, or that its model refuses
    MaskError             a mask of a labelled set that cannot be read
    CostError             nodes that cannot run what is to be estimated
    ErrorShareError       more images failed than the share that is allowed
    PartialRunError       some work units are still open; the same command goes on
ModelError                models
    ArtifactError         a model's folder that cannot be used
    BackboneError         a backbone that cannot be built as configured
    NoSuchDevice          a device that this machine does not have, or that is none
    TrainingError         a training that cannot go on
    ExplanationError      a method or a layer that this detector does not have
    NotGuided             a network that guided backpropagation is not defined for
StorageError              pipeline/storage: a request that storage did not fulfil
    BadUri                an address from which no store can be opened
    Gone                  an object that does not exist, or no more
    Changed               an object that is no longer the listed one
    Denied                storage refuses; trying again is no use
    Unreachable           no useful answer after all attempts
    DamagedState          an object of a run's state that is not what was written
CorruptStream             pipeline/storage: compressed bytes that are damaged; the shard's fault, so no StorageError
DecodeError               pipeline/decode
    Undecodable           an image that cannot be scored: a row in `errors`
    DecoderUnavailable    the decoder's process does not start
InputError                pipeline/input, pipeline/sources
    NoSuchColumn          a Parquet file whose columns do not go with the config
    UnreadableTable       a Delta table that cannot be read as its newest version
    Unreadable            a tar that cannot be followed beyond a header: rows in `errors`
StateError                pipeline/state
    IncompleteSlice       a work unit that is not committed whole
    RunConflict           a run id that is taken by a run with another config
    LeaseHeld             another driver has the run
    LeaseLost             another driver has taken the run over
    DamagedState          as above: also an answer of storage
StagesError               pipeline/stages
    DeviceMissing         what is no device, or a GPU where none can come
    NoCluster             no Ray cluster answers at the address
    NoSessionFolder       no place for Ray's sockets or shared memory
TablesError               pipeline/tables
    TableConflict         a table that does not fit what is to be written to it
        PartitionConflict a partition that holds scores of another model digest
    TooManyErrors         more images failed than the share that is allowed; nothing is published
    NoTables              nothing was ever published under the output
    NotAnswered           SQL that DuckDB cannot run over the tables
    NotAQuestion          SQL that does something instead of asking
NoSuchRun                 pipeline/report: no finished run fits what was asked for
EmptyInput                pipeline/run.py: there is nothing to score
ImagesError               pipeline/session.py: what was given is no image, or holds none
"""

import errno
import reprlib
import tempfile
from collections import Counter
from enum import IntEnum
from typing import Any

from pipeline.storage.objects import StorageError, Unreachable

OUR_PACKAGES = {"jobs", "pipeline", "models", "schemas", "__main__"}


class ExitCode(IntEnum):
    """What scripts may rely on. 1 is left to Python: an error that nobody foresaw, with its traceback."""

    OK = 0
    USAGE = 2
    ERROR_SHARE = 3
    PARTIAL = 5
    INTERRUPTED = 130


class Shown(reprlib.Repr):
    """Values as their repr, what is endless of them cut: a few lines of YAML can stand for billions of values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 1000, 1000

    def repr_int(self, number: int, level: int) -> str:
        bits = number.bit_length()
        return repr(number) if bits < 1000 else f"an integer of {bits} bits"  # Python refuses to write long ones


SHOWN = Shown()


class CommandError(Exception):
    """What ends a command, and is none of the rooms' own errors."""


class UsageError(CommandError, ValueError):
    """A setting that cannot work, found before anything was started. Exit code 2."""

    def __init__(self, field: str, rule: str, value: Any, fix: str) -> None:
        super().__init__(f"{field} must be {rule}; got {SHOWN.repr(value)}. {fix}")


class ErrorShareError(CommandError):
    """More images failed than the configured share: good units are committed, nothing is published. Exit code 3."""


class PartialRunError(CommandError):
    """Some work units are still open because storage could not be reached; the same command goes on. Exit code 5."""


EXIT_CODES: dict[type[Exception], ExitCode] = {
    UsageError: ExitCode.USAGE,
    ErrorShareError: ExitCode.ERROR_SHARE,
    PartialRunError: ExitCode.PARTIAL,
    Unreachable: ExitCode.PARTIAL,
    StorageError: ExitCode.USAGE,
}
"""The first class that fits decides: storage that does not answer may answer the next time, one that refuses will not."""


def is_full_disk(error: Exception) -> bool:
    """Whether a disk of this machine is full: that of scratch files, since stores have errors of their own."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sentence(error: Exception) -> str:
    """What is printed of an error that has an exit code."""
    if is_full_disk(error):
        place = tempfile.gettempdir()
        return f"scratch files must have room; {place} is full ({error}). Let TMPDIR name a larger disk and repeat the command"
    return str(error)


def exit_code(error: Exception) -> ExitCode | None:
    """The code to end with after printing the error's one line; None: not foreseen, let the traceback through.

    A ValueError subclass that one of our own packages defines carries a full sentence about the user's input (an
    unreadable model, a key pattern that cannot match), so it counts as a usage error. A bare ValueError does not.
    """
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    if is_full_disk(error):
        return ExitCode.USAGE
    ours = type(error).__module__.partition(".")[0] in OUR_PACKAGES
    return ExitCode.USAGE if ours and isinstance(error, ValueError) else None


def check_unreadable(reasons: Counter[str], total: int, limit: float, where: str) -> None:
    """Raises ErrorShareError when more than the limit, a share of all images, could not be read."""
    failed = sum(reasons.values())
    if total and failed > limit * total:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise ErrorShareError(
            f"unreadable images must be at most {limit:.0%} of the input; got {failed} of {total} ({listed}) in {where}. "
            "Repair or remove them, or raise max_unreadable_share in the config."
        )
