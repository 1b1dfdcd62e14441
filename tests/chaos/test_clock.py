"""The driver's clock jumps in the middle of a run, for a while or for good. Storage refuses signatures 15 minutes off."""

import json
import os
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any

import chaos_archive
import pytest
from fault_proxy import Fault

from pipeline.storage.objects import ATTEMPTS

DONE, PARTIAL = 0, 5
A_WHILE_S = 2.0
DAY_S = 86_400
LIBRARY = Path("/usr/lib") / sysconfig.get_config_var("MULTIARCH") / "faketime/libfaketime.so.1"
DRIVERS = """
import json, os, select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds)  # libfaketime mistakes its monotonic end for wall time
import driver_imports
from driver import drive
for line in sys.stdin:
    child = os.fork()
    if not child:
        drive(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class JumpingClock:
    """Drivers whose wall clock is some seconds off; their monotonic clocks go on. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seconds-off"
        self.set(0)
        environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVERS],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "JumpingClock":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=60)

    def set(self, seconds: int) -> None:
        other = self._file.with_suffix(".new")
        other.write_text(f"{seconds:+d}\n")
        os.replace(other, self._file)

    def drive(self, settings: dict[str, Any], environment: dict[str, str], log: Path) -> int:
        """Run a driver; its exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([settings, environment, str(log)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def drivers(tmp_path_factory):
    if not LIBRARY.exists():  # on Debian or Ubuntu, as root
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "libfaketime"], check=True)
    with JumpingClock(tmp_path_factory.mktemp("clock")) as clock:
        yield clock


@pytest.fixture
def clock(drivers):
    drivers.set(0)
    return drivers


@pytest.fixture
def command(laboratory, clock, tmp_path):
    """`flowscore score` under that clock; `jump` is called once the given share of the usual requests has come."""

    def run(output, share=0.0, jump=lambda: None, outage_s=60, attempts=ATTEMPTS):
        settings = chaos_archive.settings(laboratory.model, f"{laboratory.bucket}/in-first", output)
        settings["limits"] |= {"outage_s": outage_s}
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        laboratory.proxy.arm(Fault("harm", int(share * len(laboratory.whole["first"].requests))), harm=jump)
        code = clock.drive(settings, laboratory.environment | {"AWS_MAX_ATTEMPTS": str(attempts)}, log)
        assert laboratory.proxy.struck == 1
        return code, log.read_text()

    return run


def refused(laboratory):
    return sum(request.status == 403 for request in laboratory.proxy.passed)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "seconds"), [(0.2, 600), (0.6, -600), (0.9, 600)])
def test_a_jump_that_storage_takes_is_not_noticed(share, seconds, command, clock, laboratory):
    output = f"{laboratory.bucket}/clock-{share}-{seconds}"
    code, log = command(output, share, lambda: clock.set(seconds))
    assert code == DONE, log
    assert refused(laboratory) == 0
    assert laboratory.wrong("first", output) == []


@pytest.mark.slow
@pytest.mark.parametrize(("share", "days"), [(0.05, 400), (0.3, -400), (0.5, 400), (0.7, -400), (0.85, 400), (0.95, -400)])
def test_a_clock_that_is_wrong_for_a_while_costs_that_while(share, days, command, clock, laboratory):
    output = f"{laboratory.bucket}/clock-{share}-{days}"

    def jump():
        clock.set(days * DAY_S)
        threading.Timer(A_WHILE_S, clock.set, [0]).start()

    code, log = command(output, share, jump)
    assert code == DONE, log
    assert refused(laboratory) > 0, "storage must see the jump"
    assert laboratory.wrong("first", output) == []


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_clock_that_stays_wrong_is_named_and_nothing_is_lost(share, command, clock, laboratory):
    output = f"{laboratory.bucket}/clock-{share}-stays"
    code, log = command(output, share, lambda: clock.set(-DAY_S), outage_s=0, attempts=3)
    assert code == PARTIAL, log
    assert "the clock of this machine" in log and "Traceback" not in log
    clock.set(0)
    code, log = command(output)
    assert code == DONE, log
    assert laboratory.wrong("first", output) == []
