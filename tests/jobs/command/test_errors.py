import ast
import builtins
import errno
import re
import tempfile
from pathlib import Path

import pytest

from jobs.command import errors
from jobs.command.errors import ErrorShareError, ExitCode, PartialRunError, UsageError, exit_code, sentence
from pipeline.storage.objects import BadUri, Denied, Gone, Unreachable

ROOT = Path(__file__).parents[3]


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
    assert [int(code) for code in ExitCode] == [0, 2, 3, 5, 130, 143]


def test_a_full_disk_says_which_and_what_to_do():
    said = sentence(OSError(errno.ENOSPC, "No space left on device"))
    assert tempfile.gettempdir() in said and "TMPDIR" in said
    assert sentence(Gone("nothing there")) == "nothing there"


def test_what_storage_says_is_put_into_a_sentence():
    assert sentence(Denied("s3://b/: AccessDenied (403)")).startswith(
        "storage refuses: s3://b/: AccessDenied (403). Correct the"
    )
    assert sentence(Unreachable("s3://b/: timed out")).startswith("storage does not answer: s3://b/: timed out. Repeat the")


def raised_by_us():
    """(exception, base) of every exception class of ours, by their sources."""
    bases = {}
    for package in ("jobs", "models", "pipeline", "schemas"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]

    def is_exception(name):
        kind = getattr(builtins, name, None)
        built_in = isinstance(kind, type) and issubclass(kind, BaseException)
        return built_in or any(is_exception(base) for base in bases.get(name, []))

    ours = {name for name in bases if is_exception(name)}
    return {(name, base) for name in ours for base in ([b for b in bases[name] if b in ours] or [None])}


def test_the_docstring_holds_the_whole_tree_of_our_exceptions():
    shown, above = set(), []
    for line in errors.__doc__.splitlines():
        entry = re.match(r"((?:    )*)([A-Z]\w+)  +", line) or re.match(r"((?:    )+)([A-Z]\w+) ", line)
        if entry:
            depth = len(entry[1]) // 4
            above[depth:] = [entry[2]]
            shown.add((entry[2], above[depth - 1] if depth else None))
    assert shown == raised_by_us()
