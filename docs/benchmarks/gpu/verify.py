"""Proves and measures the GPU path on one machine, in under ten minutes, without Ray and without network.

    make gpu-bundle BUNDLE=FOLDER     # here: everything that the machine needs, under 60 MB
    python FOLDER/docs/benchmarks/gpu/verify.py [--device cuda|cpu] [--limit-s 540] [--only NAME ...] [--save FILE.jsonl]

Every case runs in a process of its own, so that a fault in one ends no other. A case prints JSON lines, the most important case
first: `ok` is true or false for what must hold and null for what is only measured. A case that is not reached in time, that
dies, or that needs a GPU where there is none, says so in its line. Exits 1 if something that must hold does not. README.md
beside this file says what the figures mean.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE)]
os.environ.setdefault("FLOWSCORE_ASSETS", str(ROOT / "shared"))
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking whether there is a GPU must not start CUDA before the forks

# Before the first fork, so that no case imports them again. Nothing here may compute or touch a GPU.
import timm  # noqa: E402, F401
import torch  # noqa: E402
from cases.listed import CASES, Case, Place  # noqa: E402

Line = dict[str, Any]


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where torch finds a GPU")
    given.add_argument("--limit-s", type=float, default=540.0, help="seconds for all cases")
    given.add_argument("--only", nargs="*", default=[], help="names of cases, or how they begin")
    given.add_argument("--save", type=Path, help="a file for the lines, beside the terminal")
    settings = given.parse_args()
    end = time.monotonic() + settings.limit_s
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="flowscore-gpu-") as folder:
        device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        with open(settings.save or os.devnull, "w", encoding="utf-8") as saved:
            for case in CASES:
                if settings.only and not case.name.startswith(tuple(settings.only)):
                    continue
                for line in _lines(case, Place(device, Path(folder)), end - time.monotonic()):
                    _print(line, saved)
                    if line["ok"] is False:
                        failed.append(line["case"])
            passed = not failed
            _print({"case": "closing", "ok": passed, "device": device, "failed": failed}, saved)
    return 0 if passed else 1


def _print(line: Line, saved: TextIO) -> None:
    text = json.dumps(line, allow_nan=False)
    print(text, flush=True)
    print(text, file=saved, flush=True)


def _lines(case: Case, place: Place, left_s: float) -> Iterator[Line]:
    """The case's lines; several processes run it at once where it asks for that."""
    if case.needs_gpu and place.device == "cpu":
        yield {"case": case.name, "ok": None, "needs": "a GPU"}
        return
    if left_s < case.least_s:
        yield {"case": case.name, "ok": None, "left_out": f"{max(left_s, 0):.0f} s were left, it takes {case.least_s:.0f}"}
        return
    context = multiprocessing.get_context("fork")
    clock, limit = time.monotonic(), min(left_s, case.limit_s)
    running = []
    for number in range(case.processes):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(case, place, number, theirs))
        process.start()
        theirs.close()
        running.append((process, ours))
    for process, ours in running:
        try:
            while ours.poll(max(0.0, limit - (time.monotonic() - clock))):
                yield {"case": case.name, "s": round(time.monotonic() - clock, 1)} | ours.recv()
        except EOFError:
            process.join(10)
            if process.exitcode != 0:
                yield {"case": case.name, "ok": case.missed, "died": f"exit status {process.exitcode}"}
        else:
            yield {"case": case.name, "ok": case.missed, "stopped": f"after {limit:.0f} s"}
            process.kill()


def _run(case: Case, place: Place, number: int, answers: Connection) -> None:
    # The scorer's lanes compute with one thread each on a CPU, and only that gives the bits of a plain call.
    torch.set_num_threads(1 if place.device == "cpu" else max(1, (os.cpu_count() or 1) // case.processes))
    try:
        for found in case.run(place, number):
            line = {"ok": None} | found
            json.dumps(line, allow_nan=False)  # what is no JSON fails its own case
            answers.send(line)
    except Exception as error:
        traceback.print_exc()
        answers.send({"ok": case.missed, "error": f"{type(error).__name__}: {error}".splitlines()[0]})
    answers.close()


if __name__ == "__main__":
    sys.exit(main())
