"""A clock that a test moves: what the code asks for the time, and what the Delta library takes the age of files for."""

import datetime as real
import os
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.tables import changes, delta

BEFORE = real.timedelta(days=3650)
"""The clock begins so long ago, so that a file is never from the future for the library, which asks the machine."""


class MovedClock:
    def __init__(self) -> None:
        self.moved = real.timedelta()

    def now(self) -> real.datetime:
        return real.datetime.now(real.UTC) - BEFORE + self.moved

    def pass_days(self, days: int, output: Path) -> None:
        """Logs get older too."""
        self.moved += real.timedelta(days=days)
        for path in output.glob("*/_delta_log/*"):
            aged = path.stat().st_mtime - days * 86_400
            os.utime(path, (aged, aged))

    def date(self, path: Path) -> None:
        """The file was written now."""
        at = self.now().timestamp()
        os.utime(path, (at, at))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        clock, vacuum = self, DeltaTable.vacuum

        class AnyDatetime(type):
            def __instancecheck__(cls, value: object) -> bool:
                return isinstance(value, real.datetime)

        class Moved(real.datetime, metaclass=AnyDatetime):
            @classmethod
            def now(cls, tz: real.tzinfo | None = None) -> real.datetime:
                return clock.now().astimezone(tz)

        def vacuumed(table: DeltaTable, retention_hours: int, **options: object) -> list[str]:
            more = (BEFORE - clock.moved) / real.timedelta(hours=1)
            options["enforce_retention_duration"] = False
            return vacuum(table, retention_hours=retention_hours + int(more), **options)

        for name, module in list(sys.modules.items()):
            if name.startswith("pipeline.") and getattr(module, "datetime", None) is real.datetime:
                patch.setattr(module, "datetime", Moved)
        patch.setattr(changes, "_now_ms", lambda: int(clock.now().timestamp() * 1000))
        patch.setattr(DeltaTable, "vacuum", vacuumed)
        # By the machine's clock everything was removed years ago, and a checkpoint would forget it.
        patch.setitem(delta.RETENTION, "delta.deletedFileRetentionDuration", "interval 100000 days")
        patch.setattr(time, "sleep", lambda seconds: None)
