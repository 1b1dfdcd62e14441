"""What 1 % of bad images costs, and whether each becomes the row of errors that it should.

    python docs/benchmarks/reliability/bad_images.py FOLDER [--images 20000] [--source files|tar] [--repeats 3]
        [--model DIR] [--json FILE]

Writes two archives of the same size to FOLDER, one of which has 1 % of its images bad in 20 ways (bad_archive.py), trains a
tiny model unless one is given, and scores both by `flowscore score` in turn, each time into new tables. Prints the table of
ways and the rates, and ends with 1 when a row of scores or errors is not as it should be. Rates say something on an idle
machine only.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bad_archive import CONTENTS, MAX_MEMBER_BYTES, TAR_WAYS, Expected, InTar, bad_numbers, good, write_files, write_tars

from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

ROOT = Path(__file__).resolve().parents[3]
WRITERS = {"files": write_files, "tar": write_tars}


def flowscore(*arguments: object) -> None:
    """The command as a user gives it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"flowscore {arguments[0]} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def train(folder: Path) -> Path:
    """A small CS-Flow after one epoch on random backbone weights: what it says of an image does not matter here."""
    (folder / "good").mkdir(parents=True)
    for number in range(40):
        (folder / "good" / f"{number}.jpg").write_bytes(good(number))
    flowscore(
        *("train", "--detector", "csflow", "--input", folder / "good", "--model-out", folder / "model"),
        *("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", 64, "--epochs", 1, "--device", "cpu"),
        *("--calibration-share", 0, "--selection-share", 0, "--name", "tiny", "--seed", 0),
    )
    return folder / "model"


def score(model: Path, archive: Path, output: Path, config: Path) -> tuple[float, float]:
    """Seconds between the first and the last commit, and all that the run took without finalize (Ray's start included)."""
    shutil.rmtree(output, ignore_errors=True)
    flowscore("score", "--model", model, "--input", archive, "--output", output, "--config", config)
    commits = [path.stat().st_mtime for path in output.glob("_flowscore/ledgers/*/commits/*/*.parquet")]
    ((spent_s,),) = open_tables(str(output)).connection.execute("select spent_s from runs").fetchall()
    return max(commits) - min(commits), spent_s


def wrong(archive: Path, output: Path, images: int, expected: list[Expected]) -> list[str]:
    """What in the tables is not as it should be; empty when all is well."""
    base = f"{open_store(archive).uri}/"
    tables = open_tables(str(output)).connection
    scored = tables.execute("select uri, member, count(*) from scores group by all").fetchall()
    errors = tables.execute("select uri, member, stage, error, byte_offset from errors").fetchall()
    found = Counter(Expected(uri.removeprefix(base), *rest) for uri, *rest in errors)
    spoiled = {(row.name, row.member) for row in expected}
    faults = [f"missing in errors: {row}" for row in (Counter(expected) - found).elements()]
    faults += [f"not expected in errors: {row}" for row in (found - Counter(expected)).elements()]
    faults += [f"{count} times in scores: {uri} {member}" for uri, member, count in scored if count != 1]
    faults += [f"scored although bad: {u} {m}" for u, m, _ in scored if (u.removeprefix(base), m) in spoiled]
    if len(scored) != images - len(expected):
        faults.append(f"{len(scored)} images scored instead of {images - len(expected)}")
    return faults


def measure(folder: Path, images: int, source: str, repeats: int, model: Path | None) -> dict[str, Any]:
    """Make the archives, score them in turn, compare."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "score.yaml"
    config.write_text(f"source: {{max_member_bytes: {MAX_MEMBER_BYTES}}}\nlimits: {{max_error_share: 0.05}}\n")
    expected = {}
    for kind in ("clean", "bad"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        expected[kind] = WRITERS[source](folder / kind, images, kind == "bad")
    model = model or train(folder)
    runs, faults = [], []
    for repeat in range(repeats):
        for kind in ("clean", "bad") if repeat % 2 == 0 else ("bad", "clean"):
            seconds, spent_s = score(model, folder / kind, folder / f"out-{kind}", config)
            found = wrong(folder / kind, folder / f"out-{kind}", images, expected[kind])
            runs.append({"archive": kind, "seconds": round(seconds, 2), "spent_s": round(spent_s, 2), "wrong": found[:20]})
            faults += found
            print(f"{kind:6}{images / seconds:9.1f} images/s {seconds:9.1f} s  {len(found)} wrong", flush=True)
    middle = {
        (kind, field): statistics.median(run[field] for run in runs if run["archive"] == kind)
        for kind in expected
        for field in ("seconds", "spent_s")
    }
    return {
        "images": images,
        "source": source,
        "ways": ways(source, images),
        "bad": len(expected["bad"]),
        "with_byte_offset": sum(row.byte_offset is not None for row in expected["bad"]),
        "runs": runs,
        "images_per_s": {kind: round(images / middle[kind, "seconds"], 1) for kind in expected},
        "throughput_ratio": round(middle["clean", "seconds"] / middle["bad", "seconds"], 4),
        "throughput_ratio_with_start": round(middle["clean", "spent_s"] / middle["bad", "spent_s"], 4),
        "as_expected": not faults,
    }


def ways(source: str, images: int) -> list[dict[str, Any]]:
    """The table: way, expected stage and error, whether a byte offset is expected, how many there are."""
    chosen = TAR_WAYS if source == "tar" else CONTENTS
    count = len(bad_numbers(images))
    return [
        {
            "way": way.way,
            "stage": "read" if isinstance(way, InTar) else way.stage,
            "error": way.error,
            "byte_offset": isinstance(way, InTar),
            "images": (count - number - 1) // len(chosen) + 1,
        }
        for number, way in enumerate(chosen)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--source", choices=WRITERS, default="files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = measure(given.folder.resolve(), given.images, given.source, given.repeats, given.model)
    for way in result["ways"]:
        print(f"{way['way']:36}{way['stage']:8}{way['error']:20}{'offset' if way['byte_offset'] else '':8}{way['images']}")
    print(f"{result['bad']} of {result['images']} bad; all as expected: {result['as_expected']}")
    print(f"throughput with bad images / clean: {result['throughput_ratio']:.3f}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if result["as_expected"] else 1)


if __name__ == "__main__":
    main()
