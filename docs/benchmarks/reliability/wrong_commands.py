"""How long a wrong command takes to its one line, each as a process of its own, over the table of tests/wrong_invocations.py.

    PYTHONPATH=.:tests python docs/benchmarks/reliability/wrong_commands.py

Prints the median of all commands, of those that need no torch, and the slowest ones, in seconds of the clock and of
processors: on a machine that does other things the latter says more. No command asks anything over a network.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from wrong_invocations import ROWS, Places, Wrong, make_places

SLOWEST = 10


class Took(NamedTuple):
    """Of a whole process, seconds."""

    wall_s: float
    cpu_s: float


def took(wrong: Wrong, places: Places) -> Took:
    """Ends this script if the command does not end with 2 and one line."""
    arguments = shlex.split(wrong.arguments.format(**asdict(places)))
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "FLOWSCORE_ASSETS")}
    started, before = time.monotonic(), os.times()
    ended = subprocess.run(
        [sys.executable, "-m", f"jobs.{wrong.verb}", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    wall_s, after = time.monotonic() - started, os.times()
    if ended.returncode != 2 or ended.stderr.count("\n") != 1:
        raise SystemExit(f"{wrong.verb} {wrong.arguments} ended with {ended.returncode}\n{ended.stderr[-4000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(wall_s, used)


def line(found: list[Took]) -> str:
    walls, cpus = zip(*found, strict=True)
    return (
        f"median {statistics.median(walls):.2f} s (CPU {statistics.median(cpus):.2f} s), "
        f"longest {max(walls):.2f} s (CPU {max(cpus):.2f} s)"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = make_places(Path(folder))
        found = {wrong: took(wrong, places) for wrong in ROWS}
    light = [one for wrong, one in found.items() if wrong.light]
    print(f"{len(found)} wrong commands: {line(list(found.values()))}")
    print(f"{len(light)} of them without torch: {line(light)}")
    for wrong in sorted(found, key=lambda wrong: -found[wrong].cpu_s)[:SLOWEST]:
        print(f"{found[wrong].wall_s:6.2f} s (CPU {found[wrong].cpu_s:.2f} s)  {wrong.verb} {wrong.arguments}")


if __name__ == "__main__":
    main()
