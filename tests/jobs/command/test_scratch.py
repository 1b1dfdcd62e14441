"""A TMPDIR that cannot be used is one line, before a verb does anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.command.errors import UsageError
from jobs.command.scratch import VARIABLES, check_scratch

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_place_that_is_missing_or_a_file(monkeypatch, tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    for place, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path / "file", "Not a directory")):
        monkeypatch.setenv(name, str(place))
        with pytest.raises(UsageError, match=f"{name} must be a directory that can be written and is not full; got .*{reason}"):
            check_scratch()


@pytest.mark.parametrize(("place", "reason"), [("/proc", "No such file"), ("/sys", "denied|not permitted|No such file")])
def test_a_place_that_nobody_may_write_to(monkeypatch, place, reason):
    monkeypatch.setenv("TMPDIR", place)
    with pytest.raises(UsageError, match=reason):
        check_scratch()


def test_a_full_disk(monkeypatch, tmp_path):
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 -- the code under test closes it
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(UsageError, match="No space left on device"):
        check_scratch()


def test_the_first_that_is_set_counts(monkeypatch, tmp_path):
    check_scratch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TEMP", str(tmp_path / "none"))
    check_scratch()


def test_every_verb_ends_with_one_line(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jobs.cli", "query", "--output", str(tmp_path), "select 1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and ended.stderr.startswith("error: TMPDIR must be") and ended.stderr.count("\n") == 1
