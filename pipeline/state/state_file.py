"""Plan slices and commits read back: what is damaged is one error that names the object."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from pipeline.state.faults import StateError
from pipeline.storage.objects import StorageError

WRITING = {"write_page_checksum": True}
READING = {"page_checksum_verification": True}
DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError)
"""What pyarrow and the conversion of footers raise for bytes that are not what was written; not storage's errors."""


class DamagedState(StateError, StorageError):
    """An object of a run's state that is no longer what was written."""


@contextlib.contextmanager
def intact(key: str) -> Iterator[None]:
    """Raises DamagedState, which names the object `key`, for whatever its bytes lead to."""
    try:
        yield
    except DAMAGED as error:
        raise DamagedState(
            f"{key} must be as the run wrote it; it is damaged: {error}. Delete it if it is a commit, and repeat "
            "`flowscore score`; for a plan slice, start anew with another --run-id"
        ) from error
