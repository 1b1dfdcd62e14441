"""A module's own time: what a test replaces in it, no thread of another module meets."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def set_time(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., Any]) -> None:
    """In the module, `time.NAME` is the function given under that name, and all else of `time` is what it was."""
    monkeypatch.setattr(module, "time", SimpleNamespace(**(vars(module.time) | functions)))
