"""Reads plan slices and commits back: damage raises one error, which names the object."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from pipeline.state.faults import StateError
from pipeline.storage.objects import StorageError

WRITING = {"write_page_checksum": True}
READING = {"page_checksum_verification": True}
DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError)
"""What pyarrow and the conversion of footers raise for damaged bytes; storage's errors are not among them."""


class DamagedState(StateError, StorageError):
    """An object of a run's state is no longer what was written."""


@contextlib.contextmanager
def intact(key: str) -> Iterator[None]:
    """Turns every error that bytes can cause into DamagedState, which names the object `key`."""
    try:
        yield
    except DAMAGED as error:
        raise DamagedState(
            f"{key} must be as the run wrote it; it is damaged: {error}. Delete it if it is a commit, and repeat "
            "`flowscore score`; for any other object, bring it back from a backup, or choose another --output"
        ) from error
