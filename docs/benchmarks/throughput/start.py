"""Where the time of a short `flowscore score` goes, from the start of its process to its end, as JSON.

    python docs/benchmarks/throughput/start.py MODEL INPUT OUTPUT [FLAGS OF flowscore score]

OUTPUT is a directory that does not exist yet. The command runs as a user would run it; what happens when is taken from outside,
ten times a second: its lines, the files it leaves, and its processes. `cpu_s` is what each process had used when last seen.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

PERIOD_S = 0.1


class Watch(threading.Thread):
    """The processes below one process: when each was first seen under a title, and the CPU time it used."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self._began = process, process.create_time()
        self.found: dict[int, dict] = {}

    def run(self) -> None:
        while self._process.is_running():
            try:
                for process in [self._process, *self._process.children(recursive=True)]:
                    self._look(process)
            except psutil.NoSuchProcess:
                pass
            time.sleep(PERIOD_S)

    def _look(self, process: psutil.Process) -> None:
        try:
            title, used, began = _title(process), process.cpu_times(), process.create_time()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return
        found = self.found.setdefault(process.pid, {"began_s": round(began - self._began, 2), "titles": {}})
        found["titles"].setdefault(title, round(time.time() - self._began, 2))
        found["cpu_s"] = round(used.user + used.system, 2)


def _title(process: psutil.Process) -> str:
    """What a process is, in a word: Ray's workers name themselves by their task."""
    words = process.cmdline()
    if not words:
        return process.name()
    if words[0].startswith("ray::") or not words[0].endswith("python") or len(words) == 1:
        return Path(words[0].split()[0]).name if "/" in words[0] else words[0].strip()
    if words[1] == "-c":
        return "decoder" if "pipeline.decode.child" in words[2] else "python -c"
    return next((Path(word).name for word in words[1:] if not word.startswith("-")), words[1])


def main() -> None:
    model, source, output, *flags = sys.argv[1:]
    command = [sys.executable, "-u", "-m", "jobs.score", "--model", model, "--input", source, "--output", output, *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = psutil.Process(process.pid)
    began = seen.create_time()
    watch = Watch(seen)
    watch.start()
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append([round(time.time() - began, 2), line.rstrip()])
    code = process.wait()
    ended = time.time()
    if code:
        raise SystemExit(f"flowscore score ended with {code}: {lines}")
    (state,) = Path(output, "_flowscore", "ledgers").iterdir()
    commits = sorted(path.stat().st_mtime - began for path in state.glob("commits/*/*.parquet"))
    events = {
        "claimed": min(path.stat().st_mtime for path in state.glob("lease/*/*.json")) - began,
        "planned": max(path.stat().st_mtime for path in state.glob("entries/*")) - began,
        "first_commit": commits[0],
        "last_commit": commits[-1],
        "published": max(path.stat().st_mtime for path in Path(output, "_flowscore", "published").iterdir()) - began,
        "ended": ended - began,
    }
    processes = sorted(watch.found.values(), key=lambda found: found["began_s"])
    timeline = {
        "events_s": {name: round(when, 2) for name, when in events.items()},
        "cpu_s": round(sum(found["cpu_s"] for found in processes), 2),
        "lines": lines,
        "processes": processes,
    }
    print(json.dumps(timeline, indent=1))


if __name__ == "__main__":
    main()
