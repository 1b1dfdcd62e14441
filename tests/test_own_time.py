"""Tests replace the time of one module, never of all: a thread of another would meet it, and some other test would fail."""

import re
import time
from pathlib import Path

import own_time
import pytest
from own_time import set_time

FOR_ALL = re.compile(r"setattr\((?:\w+\.)?time, |setattr\(\"time\.")
ALLOWED = {"histories/moved_clock.py"}  # a whole history lives in it


def test_no_test_replaces_the_time_of_all_modules() -> None:
    tests = Path(__file__).parent
    found = {path.relative_to(tests).as_posix() for path in tests.rglob("*.py") if FOR_ALL.search(path.read_text())}
    assert found - {Path(__file__).name} == ALLOWED


def test_only_the_module_has_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.monotonic, time.sleep
    monkeypatch.setattr(own_time, "time", time, raising=False)
    set_time(monkeypatch, own_time, monotonic=lambda: 5.0)
    set_time(monkeypatch, own_time, sleep=lambda seconds: None)
    module_time = own_time.time  # type: ignore[attr-defined]
    assert module_time.monotonic() == 5.0 and module_time.sleep(9) is None and module_time.time() > 5.0
    assert (time.monotonic, time.sleep) == before
