"""Turns storage faults of the Delta library into those of the stores, so that a run treats both alike."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, SchemaMismatchError, TableNotFoundError

from pipeline.storage.objects import SKEWED, WRONG_CLOCK, Denied, Unreachable, retry

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

OF_THE_TABLE = (TableNotFoundError, CommitFailedError, DeltaProtocolError, SchemaMismatchError)
REFUSED = "The operation lacked"  # privileges, or valid credentials
COLOUR = re.compile("\x1b\\[[0-9;]*m")


class TablesError(Exception):
    """The root of what the room tables raises: tables that do not fit, invalid queries, a slice with too many errors."""


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Raises Denied and Unreachable for storage faults; errors about the table itself pass through unchanged.

    Either leaves it open whether a write was done: load the table and check.
    """
    try:
        yield
    except OF_THE_TABLE:
        raise
    except (OSError, DeltaError) as error:
        what = " ".join(COLOUR.sub("", str(error)).split())
        if SKEWED in what:
            raise Unreachable(f"{what}: {WRONG_CLOCK}") from error
        raise (Denied if REFUSED in what else Unreachable)(what) from error


def retried(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same function; it names storage faults and is called again after transient ones. It must not write."""

    @functools.wraps(function)
    def asked(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        def once() -> Result:
            with named():
                return function(*arguments, **options)

        return retry(once)

    return asked
