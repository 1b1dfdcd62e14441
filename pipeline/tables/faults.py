"""What the Delta library says when storage fails, in the words of the stores, so that a run treats both alike."""

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
    """What the room tables raises of its own: tables that do not fit, queries that are none, a slice with too many errors."""


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Raises Denied and Unreachable for faults of the storage; what the library says of the table itself stays as it is.

    After one of them a write may have been done or not: load the table and look.
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
    """The same function, its storage faults named, and called again after those that pass. It must not write."""

    @functools.wraps(function)
    def asked(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        def once() -> Result:
            with named():
                return function(*arguments, **options)

        return retry(once)

    return asked
