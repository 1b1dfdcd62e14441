"""Checks that scratch files can be written: every verb needs some, and libraries ignore a TMPDIR that they cannot use."""

import os
import tempfile

from jobs.command.errors import UsageError

VARIABLES = ("TMPDIR", "TEMP", "TMP")


def check_scratch() -> None:
    """Raises UsageError unless a file can be written to the first of TMPDIR, TEMP and TMP that is set, else to /tmp."""
    for name in VARIABLES:
        if place := os.environ.get(name):
            try:
                with tempfile.TemporaryFile(dir=place) as file:
                    file.write(b"1")
                    file.flush()
            except OSError as error:
                fix = f"{error.strerror}. Correct it, or unset it to use /tmp."
                raise UsageError(name, "a directory that can be written and is not full", place, fix) from error
            return
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise UsageError("TMPDIR", "a directory that can be written", None, f"{error.strerror}.") from error
