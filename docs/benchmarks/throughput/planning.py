"""Seconds and memory of planning an archive, and of finding that nothing in it is new, from listing entries made up on the fly.

    PYTHONPATH=. python docs/benchmarks/throughput/planning.py [--objects 10000000] [--tars]

Keys look like `line3/2026-05-04/lot-000123/000123456.jpg`, or are tar shards; the ledger lies in a local folder that is
removed again. Its inventory is folded before the second planning, as the command does after some slices. Prints one line of
JSON; seconds are of this process, so planning alone without the listing's own time.
"""

import argparse
import datetime
import json
import resource
import tempfile
import time
from collections.abc import Iterator

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing
from pipeline.state.entries import Created, Promotion, add_entry, read_head, read_slice
from pipeline.state.inventory import fold
from pipeline.state.ledger import Ledger
from pipeline.state.plan import Wanted, plan_slice, read_state
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Object

LINES, DAYS, LOT = 10, 100, 500
FIRST_DAY = datetime.date(2026, 1, 1)


class Listed:
    """A store that can only be listed, in key order."""

    uri = "s3://made-up/archive"

    def __init__(self, objects: int, suffix: str) -> None:
        self.objects, self.suffix = objects, suffix

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
        each = -(-self.objects // (LINES * DAYS))
        left = self.objects
        for line in range(LINES):
            for day in range(DAYS):
                folder = f"line{line}/{FIRST_DAY + datetime.timedelta(day)}"
                for i in range(min(each, left)):
                    key = f"{folder}/lot-{i // LOT:06d}/{i:09d}{self.suffix}"
                    yield Object(key, 400_000 + i % 1000, f"{line:02x}{day:06x}{i:024x}", ":1767225600")
                left -= min(each, left)


def mib(ledger: Ledger) -> float:
    """All that the ledger has on storage."""
    return round(sum(entry.size for entry in ledger.store.list()) / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000_000)
    parser.add_argument("--tars", action="store_true")
    asked = parser.parse_args()
    source = SourceConfig(input_uri=Listed.uri, key_pattern="{line}/{date}/{lot}/{name}")
    config = ScoringConfig(model="m", model_digest="0" * 64, source=source, decode=DecodeConfig(height=256, width=256))
    listed = Listed(asked.objects, ".tar" if asked.tars else ".jpg")
    clock = time.process_time()
    count = sum(1 for _ in listed.list())
    figures: dict[str, float] = {"objects": count, "listing_alone_s": round(time.process_time() - clock, 1)}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(folder, config.model)
        add_entry(ledger, read_head(ledger), Created(image_id="uri", key_pattern=source.key_pattern))
        add_entry(ledger, read_head(ledger), Promotion(digest=config.model_digest, artifact={}))
        wanted = Wanted(listed, lambda: Listing(source, listed), lambda digest: config)
        clock = time.process_time()
        number = plan_slice(ledger, wanted)
        figures["plan_s"] = round(time.process_time() - clock, 1)
        assert number is not None
        planned = read_slice(ledger, number)
        assert (planned.streams if asked.tars else planned.images) == count
        figures["units"] = planned.units
        figures["plan_mib"] = mib(ledger)
        clock = time.process_time()
        fold(ledger, *read_state(ledger))
        figures["fold_s"] = round(time.process_time() - clock, 1)
        figures["inventory_mib"] = round(mib(ledger) - figures["plan_mib"], 1)
        clock = time.process_time()
        assert plan_slice(ledger, wanted) is None
        figures["nothing_new_s"] = round(time.process_time() - clock, 1)
    figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
