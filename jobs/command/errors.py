"""The errors of the commands, the tree of all our exceptions, and the exit code of each.

CommandError              jobs
    UsageError            a setting that cannot work, found before anything starts
    ConfigError           a setting that is missing, or that its model refuses
    MaskError             a mask of a labelled set that cannot be read
    CostError             nodes on which the estimated run cannot work
    ErrorShareError       more images failed than the allowed share, and the slice is held
    PartialRunError       some work units are still open; the same command goes on
ModelError                models
    ArtifactError         a model's folder that cannot be used
    BackboneError         a backbone that cannot be built as configured
    NoKernel              a machine that cannot compile the kernel of fp16's depthwise layers
    NoSuchDevice          a device that this machine does not have, or that is none
    NoVariation           good images that are all alike: no model can be fitted to them
    NotFitted             a detector that was neither fitted nor given the state of a fitted one
    OutsideArithmetic     an environment that would change the results of models
    TrainingError         a training that cannot go on
    UnusableState         a file of an interrupted training that is damaged or of another one; it is told and not used
    VerdictError          numbers from which no verdict, interval or chart can be made as asked
    ExplanationError      a method or a layer that this detector does not have
    NotGuided             a network for which guided backpropagation is not defined
    WrongImages           images that are not of the model's input size
StorageError              pipeline/storage: a request that storage did not fulfil
    BadUri                an address that names no store
    Gone                  an object that does not exist, or no longer exists
    Changed               an object that is no longer the listed one
    Denied                storage refuses; trying again is no use
        Refused           storage refuses one object: a row in `errors`
            Archived      the object must be restored first: a row in `errors`
    NotRead               an object that is not read, because reading it ends workers: a row in `errors`
    Unreachable           no useful answer after all attempts
    DamagedState          an object of a run's state that is not what was written
CorruptStream             pipeline/storage: compressed bytes are damaged; the shard is at fault, so it is no StorageError
ScoringError              pipeline/scoring: a scorer tells the driver, which ends the run with ScorerRefuses
    WrongDevice           the process has another device than the one that was decided for it
    ReplayDiffers         a CUDA graph that gives other results than the computation that it was captured from
    DeviceFault           the device failed or has too little memory; a scorer's process ends, and Ray starts another
        NoMemory          it had too little memory twice; explanations are left out, anything else ends the process
DecodeError               pipeline/decode
    Undecodable           an image that cannot be scored: a row in `errors`
    DecoderUnavailable    the decoder's process does not start
InputError                pipeline/input, pipeline/sources
    NoSuchColumn          a Parquet file whose columns do not fit the config
    BadListing            a file of --listing that is no listing of the input
    Unparsable            a Parquet file or rows of it that cannot be parsed: rows in `errors`
    UnreadableTable       a Delta table whose newest version cannot be read
    Unreadable            a tar that cannot be followed beyond a header: rows in `errors`
StateError                pipeline/state
    IncompleteSlice       a work unit that is not wholly committed
    NoSuchSlice           a number that is not that of a slice of the model
    OtherLayout           state under the output that another version of flowscore has written
    OtherModel            another version of the model than the one that scores there
    OtherKeys             another key pattern, or another way to name images
    LostCalibration       the output's copy of a calibration is gone or damaged
    LateDay               a promotion from a day that has images already
    LeaseHeld             another driver has the model's slices
    LeaseLost             another driver has taken them over
    DamagedState          the same class as above, since it is also an answer of storage
StagesError               pipeline/stages
    DeviceMissing         a GPU where there can be none, or settings that contradict each other about GPUs
    ScorerRefuses         a scorer cannot score on the device that was decided for it: its line says on which node, and why
    NoCluster             no Ray cluster can be joined at the address
    NotJoined             why, in part of a sentence
    NodeLacks             a node of the cluster cannot reach the input or the output, or cannot run flowscore
    NoSessionFolder       no place for Ray's sockets or shared memory
    WorkersDie            workers end again and again, and no image is at fault; the same command goes on
        DevicesFail       no device is left on which scorers live
    SetAside              a unit with which a device failed twice in a row; it is scored alone
TablesError               pipeline/tables
    TableConflict         a table that does not fit the rows to be written
    SliceHeld             more images of a slice failed than the limits allow; it is not published
    PublishedMeanwhile    a slice was published while `query --unpublished` read it
    OtherRules            rows that are not judged by the newest rules yet: the command judges them, and goes on
    SlicesWait            slices that must be published before a rekey
    NoTables              nothing was ever published under the output
    NotAnswered           SQL that DuckDB cannot run over the tables
    NotAQuestion          SQL that changes something instead of asking
NoSuchRun                 pipeline/report: no finished run matches
NoSuchImage               pipeline/report: no row of `scores` is of the image
EmptyInput                pipeline/run.py: there is nothing to score
ImagesError               pipeline/session.py: the argument is no image, or holds none
"""

import errno
import re
import reprlib
import tempfile
from collections import Counter
from enum import IntEnum
from typing import Any

from pipeline.stages.faults import WorkersDie
from pipeline.storage.objects import Denied, StorageError, Unreachable

OUR_PACKAGES = {"jobs", "pipeline", "models", "schemas", "__main__"}


class ExitCode(IntEnum):
    """Scripts may rely on these. 1 is left to Python: an error that nobody foresaw, with its traceback."""

    OK = 0
    USAGE = 2
    ERROR_SHARE = 3
    PARTIAL = 5
    INTERRUPTED = 130
    TERMINATED = 143


UNFORESEEN = 1

MEANINGS: dict[int, str] = {
    ExitCode.OK: "done",
    UNFORESEEN: "an error that nobody foresaw, traceback above; repeat the command once, and report it if it ends so again",
    ExitCode.USAGE: "a setting, an address, a right or the model is wrong; mend what the error line says, then repeat it",
    ExitCode.ERROR_SHARE: "too many images have errors; what is done stays. Do what the lines above say",
    ExitCode.PARTIAL: "not finished; what is done stays. Do what the error line says, then repeat the same command",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "stopped by SIGTERM",
}
"""What the last line of a log says of its exit code."""

STOPPED_ON_A_LEDGER = "what is done stays, and is published with the rest. Repeat the same command"
"""What it adds where a verb that works on a ledger was stopped. What other verbs keep, they say themselves."""


class Shown(reprlib.Repr):
    """The repr of a value, cut short: a few lines of YAML can stand for billions of values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 1000, 1000

    def repr_int(self, number: int, level: int) -> str:
        bits = number.bit_length()
        return repr(number) if bits < 1000 else f"an integer of {bits} bits"  # Python refuses to print long ones


SHOWN = Shown()
LINE_BREAK = re.compile(r"\s*\n\s*")


class CommandError(Exception):
    """An error that ends a command and belongs to no other room."""


class UsageError(CommandError, ValueError):
    """A setting cannot work; this is found before anything starts. Exit code 2."""

    def __init__(self, field: str, rule: str, value: Any, fix: str) -> None:
        super().__init__(f"{field} must be {rule}; got {SHOWN.repr(value)}. {fix}")


class ErrorShareError(CommandError):
    """More images failed than the configured share: a slice is held and not published; others are. Exit code 3."""


class PartialRunError(CommandError):
    """Some work units are still open: storage could not be reached, or workers died; the same command goes on. Exit code 5."""


EXIT_CODES: dict[type[Exception], ExitCode] = {
    UsageError: ExitCode.USAGE,
    ErrorShareError: ExitCode.ERROR_SHARE,
    PartialRunError: ExitCode.PARTIAL,
    Unreachable: ExitCode.PARTIAL,
    WorkersDie: ExitCode.PARTIAL,
    StorageError: ExitCode.USAGE,
}
"""The first class that fits decides. Storage that does not answer may answer next time; storage that refuses will not."""


def is_full_disk(error: Exception) -> bool:
    """Whether this machine's disk for scratch files is full; stores have errors of their own."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sentence(error: Exception) -> str:
    """The line that is printed for an error that has an exit code."""
    if is_full_disk(error):
        place = tempfile.gettempdir()
        return f"scratch files must have room; {place} is full ({error}). Set TMPDIR to a larger disk and repeat the command"
    if isinstance(error, Denied):
        return f"storage refuses: {error}. Correct the address, or let these credentials have the right"
    if isinstance(error, Unreachable):
        return f"storage does not answer: {error}. Repeat the command once it does"
    return LINE_BREAK.sub(" ", str(error))  # DuckDB's and YAML's own words take several lines


def exit_code(error: Exception) -> ExitCode | None:
    """The exit code of an error that is printed as one line; None for an unforeseen one, which keeps its traceback.

    A ValueError subclass of our own packages carries a full sentence about the user's input (an unreadable model, a key
    pattern that cannot match), so it counts as a usage error. A bare ValueError does not.
    """
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    if is_full_disk(error):
        return ExitCode.USAGE
    ours = type(error).__module__.partition(".")[0] in OUR_PACKAGES
    return ExitCode.USAGE if ours and isinstance(error, ValueError) else None


def check_unreadable(reasons: Counter[str], total: int, limit: float, where: str) -> None:
    """Raises ErrorShareError if the share of unreadable images is above the limit."""
    failed = sum(reasons.values())
    if total and failed > limit * total:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise ErrorShareError(
            f"unreadable images must be at most {limit:.0%} of the input; got {failed} of {total} ({listed}) in {where}. "
            "Repair or remove them, or raise max_unreadable_share in the config."
        )
