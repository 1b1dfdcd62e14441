"""Measures the cost of a night over years: 1,000 nights of 100 made-up images each, scored by a stand-in, in one output.

    python docs/benchmarks/ledger/nights.py --nights 1000 [--date none] [--ledgers 20] [--every 100] [--copy-to ...]

A night is a day by the clock of the ledger, and every 30 nights (--clean-every) the output is cleaned. Prints, as means of 100
nights each (--every): seconds of processor, requests of our store (without those of the Delta library), memory of the driver;
for the last of them, which has a process of its own as real nights do, its seconds and its peak memory; then the files of each
table, what a compaction merged, and the time of a reader's first query before and after it, in a fresh process. With --copy-to
that is asked of a copy in that place too.
"""

import argparse
import gc
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "histories"))
from stand_in import StandIn  # noqa: E402

from pipeline.input.config import SourceConfig  # noqa: E402
from pipeline.run import RunLimits, ScoringRun, score_archive  # noqa: E402
from pipeline.state import dated_names, inventory  # noqa: E402
from pipeline.state.ledger import Ledger  # noqa: E402
from pipeline.state.promotion import Trained  # noqa: E402
from pipeline.storage.local import LocalStore  # noqa: E402
from pipeline.storage.store import open_store  # noqa: E402
from pipeline.tables import changes, clean, compaction, publication  # noqa: E402
from pipeline.tables.delta import TABLES, VACUUM_DAYS, open_table, table_files  # noqa: E402

MOVED = (publication, compaction, clean, inventory, dated_names)
IMAGES = 100
FIRST_DAY = date(2026, 1, 1)
COUNTED = ("list", "get", "get_range", "get_tail", "put", "put_new", "put_new_file", "delete")
QUERY = """
import time
begun = time.perf_counter()
from pipeline.tables.query import open_tables
imported = time.perf_counter()
rows = open_tables({output!r}).connection.sql("select uri, score from scores order by score desc limit 100").fetchall()
assert len(rows) == 100
print(f"{{time.perf_counter() - imported:.2f}} s, and {{imported - begun:.2f}} s of imports before it")
"""


class Night(NamedTuple):
    """number: of the night, from 0.  memory: of the driver after it, MiB."""

    number: int
    seconds: float
    requests: int
    memory: float


class Requests(Counter):
    """Counts the calls of every local store."""

    def install(self) -> None:
        for name in COUNTED:
            self._wrap(name, getattr(LocalStore, name))

    def _wrap(self, name, original):
        def counted(store, *args, **options):
            self[name] += 1
            return original(store, *args, **options)

        setattr(LocalStore, name, counted)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--nights", type=int, default=1000)
    asked.add_argument("--ledgers", type=int, default=1)
    asked.add_argument("--every", type=int, default=100, help="so many nights make a line of the answer")
    asked.add_argument("--clean-every", type=int, default=30, help="nights from one `finalize --clean` to the next; 0: none")
    asked.add_argument("--date", help="the same production day for every night, such as none")
    asked.add_argument("--copy-to", help="an empty place for a copy of the output")
    asked.add_argument("--one", nargs=2, metavar=("FOLDER", "NIGHT"), help="used for the nights with a process of their own")
    asked = asked.parse_args()
    if asked.one:
        print(alone(Path(asked.one[0]), int(asked.one[1]), asked.nights, asked.date))
        return
    requests = Requests()
    requests.install()
    with tempfile.TemporaryDirectory(prefix="flowscore-nights-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"w")
        nights, logs = [], set()
        for night in range(asked.nights):
            make_images(folder, night)
            own_process = night % asked.every == asked.every - 1
            for ledger in range(own_process, asked.ledgers):
                before, begun = requests.total(), time.process_time()
                score(folder, night, ledger, asked.nights, asked.date)
                spent = time.process_time() - begun
                gc.collect()
                memory = psutil.Process().memory_info().rss / 2**20
                nights.append(Night(night, spent, requests.total() - before, memory))
            age_logs(folder / "out", timedelta(night + 1 - asked.nights), logs)
            if asked.clean_every and night % asked.clean_every == asked.clean_every - 1:
                spent = clean_up(str(folder / "out"), timedelta(night + 1 - asked.nights))
                if own_process or night + asked.clean_every >= asked.nights:
                    print(f"a cleaning after night {night + 1}: {spent:.1f} s of processor", flush=True)
            if own_process:
                print(line([one for one in nights if one.number // asked.every == night // asked.every]), flush=True)
                command = [sys.executable, __file__, "--one", name, str(night), "--nights", str(asked.nights)]
                subprocess.run([*command, *(["--date", asked.date] if asked.date else [])], check=True)
        outputs = [str(folder / "out")]
        if asked.copy_to:
            copy(folder / "out", asked.copy_to)
            outputs.append(asked.copy_to)
        for output in outputs:
            read(output, asked.ledgers)


def make_images(folder: Path, night: int) -> None:
    """Each night has a folder of its own in the input, so that the length of the listing stays the same."""
    place = folder / "in" / f"{night:05d}"
    place.mkdir(parents=True)
    for image in range(IMAGES):
        (place / f"{image:03d}.png").write_bytes(b"good %d.%05d" % (image, night))


def score(folder: Path, night: int, ledger: int, nights: int, day: str | None) -> None:
    """One night of one ledger. The last of all nights is today."""
    set_clock(timedelta(night + 1 - nights))
    day = day or (FIRST_DAY + timedelta(night)).isoformat()
    source = SourceConfig(input_uri=f"file://{folder}/in/{night:05d}", date=None if day == "none" else day)
    trained = Trained("a" * 64, {"input": {"height": 64, "width": 64}}, folder / "model")
    place = Ledger(str(folder / "out"), f"model{ledger}")
    result = score_archive(ScoringRun(place, trained, source, {}, None, str(folder), RunLimits()), StandIn(lambda key: None))
    assert result.published and not result.open and not result.held, result


def set_clock(moved: timedelta) -> None:
    """What publications take for the present moment, on which it depends how long the tables name files that were removed."""

    class Moved(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) + moved

    for module in MOVED:
        module.datetime = Moved
    changes._now_ms = lambda: int((datetime.now(UTC) + moved).timestamp() * 1000)


def age_logs(output: Path, moved: timedelta, seen: set[str]) -> None:
    """Files of the tables' logs are as old as the clock says when they were written; the library looks at that."""
    at = (datetime.now(UTC) + moved).timestamp()
    for log in output.glob("*/_delta_log"):
        for entry in os.scandir(log):
            if entry.is_file() and entry.path not in seen:
                os.utime(entry.path, (at, at))
                seen.add(entry.path)


def clean_up(output: str, moved: timedelta) -> float:
    """What `finalize --clean` does; seconds of processor. The library compares with the machine's clock, not the moved one."""
    begun = time.process_time()
    clean.VACUUM_DAYS = VACUUM_DAYS - moved.days
    clean.clean(output)
    return time.process_time() - begun


def alone(folder: Path, night: int, nights: int, day: str | None) -> str:
    begun = time.process_time()
    score(folder, night, 0, nights, day)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return f"night {night + 1} in a process of its own: {time.process_time() - begun:.3f} s of processor, peak {peak:.0f} MiB"


def line(nights: list[Night]) -> str:
    seconds, requests, memory = (sum(values) / len(nights) for values in list(zip(*nights, strict=True))[1:])
    first, last = nights[0].number + 1, nights[-1].number + 1
    return f"nights {first} to {last}: {seconds:.3f} s of processor, {requests:.1f} requests, driver {memory:.0f} MiB"


def copy(output: Path, uri: str) -> None:
    """What readers and a compaction need."""
    store = open_store(uri)
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        key = path.relative_to(output).as_posix()
        if not key.startswith("_flowscore/ledgers/"):
            store.put_new_file(key, path)


def read(output: str, ledgers: int) -> None:
    """Print what a reader finds, before and after a compaction."""
    set_clock(timedelta(0))
    print(f"{output}:\n{files(output)}\nfirst query: {first_query(output)}", flush=True)
    for ledger in range(ledgers):
        begun = time.perf_counter()
        merged = compaction.compact(Ledger(output, f"model{ledger}"))
        print(f"compaction of model{ledger}: {time.perf_counter() - begun:.1f} s, {merged}", flush=True)
    print(f"{files(output)}\nfirst query: {first_query(output)}", flush=True)


def files(output: str) -> str:
    return "files: " + ", ".join(f"{len(table_files(open_table(output, table)))} of {table}" for table in TABLES)


def first_query(output: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", QUERY.format(output=output)], text=True, stdout=subprocess.PIPE, check=True
    ).stdout.strip()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
