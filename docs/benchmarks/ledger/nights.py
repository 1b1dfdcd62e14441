"""Measures the cost of a night over years: 1,000 nights of 100 made-up images each, scored by a stand-in, in one output.

    python docs/benchmarks/ledger/nights.py --nights 1000 [--date none] [--ledgers 20]

Prints, as means of 100 nights each: seconds of processor, requests of our store (without those of the Delta library) and
memory of the driver; then what a compaction merged, the files of each table, and the time of a reader's first query in a fresh
process.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "histories"))
from stand_in import StandIn  # noqa: E402

from pipeline.input.config import SourceConfig  # noqa: E402
from pipeline.run import RunLimits, ScoringRun, score_archive  # noqa: E402
from pipeline.state.ledger import Ledger  # noqa: E402
from pipeline.state.promotion import Trained  # noqa: E402
from pipeline.storage.local import LocalStore  # noqa: E402
from pipeline.tables.compaction import compact  # noqa: E402
from pipeline.tables.delta import TABLES, open_table, table_files  # noqa: E402

IMAGES = 100
COUNTED = ("list", "get", "get_range", "get_tail", "put", "put_new", "put_new_file", "delete")
QUERY = """
import time
begun = time.perf_counter()
from pipeline.tables.query import open_tables
imported = time.perf_counter()
rows = open_tables({output!r}).connection.sql("select uri, score from scores order by score desc limit 100").fetchall()
print(f"{{time.perf_counter() - imported:.2f}} s, and {{imported - begun:.2f}} s of imports before it")
"""


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
    asked.add_argument("--date", help="the same production day for every night, such as none")
    asked = asked.parse_args()
    requests = Requests()
    requests.install()
    with tempfile.TemporaryDirectory(prefix="flowscore-nights-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"w")
        nights = []
        for night in range(asked.nights):
            day = asked.date or (date(2026, 1, 1) + timedelta(night)).isoformat()
            place = folder / "in" / f"{night:05d}"
            place.mkdir(parents=True)
            for image in range(IMAGES):
                (place / f"{image:03d}.png").write_bytes(b"good %d.%05d" % (image, night))
            for ledger in range(asked.ledgers):
                run = scoring_run(folder, night, f"model{ledger}", None if day == "none" else day)
                before, begun = requests.total(), time.process_time()
                result = score_archive(run, StandIn())
                assert not result.open and not result.held, (result.open, result.held)
                spent = time.process_time() - begun
                gc.collect()
                nights.append((night, spent, requests.total() - before, psutil.Process().memory_info().rss / 2**20))
            if night % 100 == 99 or night + 1 == asked.nights:
                print(line(nights, night - night % 100, night), flush=True)
        output = str(folder / "out")
        for ledger in range(asked.ledgers):
            begun = time.perf_counter()
            merged = compact(Ledger(output, f"model{ledger}"))
            print(f"compaction of model{ledger}: {time.perf_counter() - begun:.1f} s, {merged}", flush=True)
        print({table: len(table_files(open_table(output, table))) for table in TABLES})
        print(
            "first query:", subprocess.run([sys.executable, "-c", QUERY.format(output=output)], text=True, capture_output=True)
        )


def scoring_run(folder: Path, night: int, model: str, day: str | None) -> ScoringRun:
    """Each night has a folder of its own in the input, so that the length of the listing stays the same."""
    source = SourceConfig(input_uri=f"file://{folder}/in/{night:05d}", date=day)
    trained = Trained("a" * 64, {"input": {"height": 64, "width": 64}}, folder / "model")
    return ScoringRun(Ledger(str(folder / "out"), model), trained, source, {}, None, str(folder), "cpu", RunLimits())


def line(nights: list[tuple[int, float, int, float]], first: int, last: int) -> str:
    chosen = [night for night in nights if first <= night[0] <= last]
    seconds, requests, memory = (sum(night[i] for night in chosen) / len(chosen) for i in (1, 2, 3))
    return f"nights {first + 1} to {last + 1}: {seconds:.3f} s of processor, {requests:.1f} requests, driver {memory:.0f} MiB"


if __name__ == "__main__":
    main()
