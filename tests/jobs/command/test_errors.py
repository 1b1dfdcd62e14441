import errno
import tempfile

import pytest

from jobs.command.errors import ErrorShareError, ExitCode, PartialRunError, UsageError, exit_code, sentence
from pipeline.storage.objects import BadUri, Denied, Gone, Unreachable


def test_usage_error_is_one_sentence_with_field_rule_value_and_fix():
    error = UsageError("--unit-images", "between 1 and 1000", 0, "Leave it out for 128.")
    assert str(error) == "--unit-images must be between 1 and 1000; got 0. Leave it out for 128."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a", "b", 1, "c."), 2),
        (ErrorShareError("4 % of images failed"), 3),
        (PartialRunError("partial: rerun"), 5),
        (Unreachable("no answer after 7 attempts"), 5),
        (Denied("403"), 2),
        (Gone("nothing there"), 2),
        (BadUri("uri must be ..."), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (type("ArtifactError", (ValueError,), {"__module__": "models.artifact"})("model.safetensors is not there."), 2),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize("bug", [ValueError("shapes differ"), KeyError("score"), RuntimeError("no"), OSError(errno.EIO, "no")])
def test_bugs_are_not_given_a_code(bug):
    assert exit_code(bug) is None


def test_numbers_are_what_the_documents_promise():
    assert [int(code) for code in ExitCode] == [0, 2, 3, 5, 130]


def test_a_full_disk_says_which_and_what_to_do():
    said = sentence(OSError(errno.ENOSPC, "No space left on device"))
    assert tempfile.gettempdir() in said and "TMPDIR" in said
    assert sentence(Denied("403")) == "403"
