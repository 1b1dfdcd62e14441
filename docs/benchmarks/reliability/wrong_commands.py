"""How long a wrong command takes to its one line, each as a process of its own, over the table of tests/wrong_invocations.py.

    PYTHONPATH=.:tests python docs/benchmarks/reliability/wrong_commands.py

Prints the median of all commands, of those that need no torch, and the slowest ones. No command asks anything over a network.
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

from wrong_invocations import ROWS, Places, Wrong, make_places

SLOWEST = 10


def seconds(wrong: Wrong, places: Places) -> float:
    """The whole time of the process. Ends this script if the command does not end with 2 and one line."""
    arguments = shlex.split(wrong.arguments.format(**asdict(places)))
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "FLOWSCORE_ASSETS")}
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", f"jobs.{wrong.verb}", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - started
    if ended.returncode != 2 or ended.stderr.count("\n") != 1:
        raise SystemExit(f"{wrong.verb} {wrong.arguments} ended with {ended.returncode}\n{ended.stderr[-4000:]}")
    return took


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = make_places(Path(folder))
        took = {wrong: seconds(wrong, places) for wrong in ROWS}
    light = [took[wrong] for wrong in ROWS if wrong.light]
    print(f"{len(took)} wrong commands: median {statistics.median(took.values()):.2f} s, longest {max(took.values()):.2f} s")
    print(f"{len(light)} of them without torch: median {statistics.median(light):.2f} s, longest {max(light):.2f} s")
    for wrong in sorted(took, key=lambda wrong: -took[wrong])[:SLOWEST]:
        print(f"{took[wrong]:6.2f} s  {wrong.verb} {wrong.arguments}")


if __name__ == "__main__":
    main()
