"""Where a ledger keeps its state: all that was ever done for one model name in one output, as objects under
`<output>/_flowscore/ledgers/<model>/`, each written once.

entries/9999/999987-000012.json          the one sequence: created, slice, promotion, rekey, judging (pipeline/state/entries.py)
parts/<time>-<random>/objects.parquet    what a slice entry names: its objects in key order, schemas/inventory.py
parts/<time>-<random>/units.parquet      and its work units, schemas/plan.py
artifacts/<digest>/                      the models that score here, copied at promotion
calibrations/<digest>/                   the calibrations by which verdicts were decided (pipeline/state/judges.py)
drift/<digest>/<calibration>/...json     the reference nights of drift charts (pipeline/state/drift_references.py)
commits/000012/00000007-000003.parquet   one object a finished unit: slice / number - part
tallies/000012.parquet                   all units of the slice are committed: its counts (pipeline/state/tally.py)
attempts/000012/0003.json                a driver that has worked on the slice (pipeline/state/attempts.py)
inventory/...                            the fold of sealed slices (pipeline/state/inventory.py)
lease/9999/999998-000001.json, .beat     who drives the ledger (pipeline/state/lease.py)

The output itself has `_flowscore/publications/` and `_flowscore/published/` (pipeline/state/publications.py).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from pipeline.state.faults import StateError
from pipeline.state.numbered import Numbered
from pipeline.storage.objects import Object, folders
from pipeline.storage.store import Store, open_store

LEDGERS = "_flowscore/ledgers/"
EARLIER_LAYOUT = "_flowscore/runs/"
DELETE_THREADS, DELETE_BATCH = 16, 1000


class OtherLayout(StateError, ValueError):
    """The output holds state that another version of flowscore wrote."""


@dataclass(frozen=True)
class Ledger:
    """The state of one model name in one output; cheap to make, safe to send to workers."""

    output_uri: str
    model: str

    @property
    def store(self) -> Store:
        return open_store(self.output_uri)

    @property
    def prefix(self) -> str:
        return f"{LEDGERS}{self.model}"

    @property
    def entries(self) -> Numbered:
        return Numbered(self.store, f"{self.prefix}/entries")

    def part_key(self, part: str, name: str) -> str:
        """name: `objects` or `units`."""
        return f"{self.prefix}/parts/{part}/{name}.parquet"

    def artifact_uri(self, digest: str) -> str:
        return f"{self.store.uri}/{self.artifact_prefix(digest)}"

    def artifact_prefix(self, digest: str) -> str:
        return f"{self.prefix}/artifacts/{digest}"

    def calibration_key(self, digest: str, name: str) -> str:
        """name: of a file of a calibration."""
        return f"{self.prefix}/calibrations/{digest}/{name}"

    def tally_key(self, slice_number: int) -> str:
        return f"{self.prefix}/tallies/{slice_number:06d}.parquet"

    def commits_prefix(self, slice_number: int) -> str:
        return f"{self.prefix}/commits/{slice_number:06d}/"

    def commit_key(self, slice_number: int, number: int, part: int) -> str:
        return f"{self.commits_prefix(slice_number)}{number:08d}-{part:06d}.parquet"

    def commits(self, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int, Object]]:
        """(number, part, object) of the commits of units first <= number < end, ascending; one streamed listing."""
        prefix = self.commits_prefix(slice_number)
        start_after = f"{prefix}{first - 1:08d}-999999.parquet" if first else None
        for entry in self.store.list(prefix, start_after=start_after):
            number, part = _number_and_part(entry.key)
            if end is not None and number >= end:
                return
            yield number, part, entry

    def parts_of(self, slice_number: int, number: int) -> list[tuple[int, Object]]:
        """(part, object) of the commits of one unit, ascending; one request, which lists no other unit."""
        listed = self.store.list(f"{self.commits_prefix(slice_number)}{number:08d}-")
        return [(_number_and_part(entry.key)[1], entry) for entry in listed]

    def slice_name(self, slice_number: int) -> str:
        """What a log calls a slice.

        >>> Ledger("s3://plant/results", "tiles").slice_name(12)
        'tiles slice 12'
        """
        return f"{self.model} slice {slice_number}"

    def run_id(self, slice_number: int) -> str:
        """What names a scoring run, which is a slice, in the tables: sorts like the slices."""
        return f"{self.model}-{slice_number:06d}"


def _number_and_part(key: str) -> tuple[int, int]:
    """The arguments of `commit_key`."""
    number, part = key.rpartition("/")[2].removesuffix(".parquet").split("-")
    return int(number), int(part)


def drop_commits(ledger: Ledger, slice_number: int) -> int:
    """Delete the commits of a closed slice; returns how many. Their rows are in the tables, and nothing reads them again."""
    deleted = 0
    with ThreadPoolExecutor(DELETE_THREADS) as pool:
        keys = (entry.key for entry in ledger.store.list(ledger.commits_prefix(slice_number)))
        while batch := list(islice(keys, DELETE_BATCH)):
            deleted += len(list(pool.map(ledger.store.delete, batch)))
    return deleted


def ledgers(output_uri: str) -> list[Ledger]:
    """The ledgers of an output, by model name. Raises OtherLayout."""
    store = open_store(output_uri)
    if next(iter(store.list(EARLIER_LAYOUT)), None) is not None:
        raise OtherLayout(
            f"output must hold state of this version of flowscore; got {output_uri} with {EARLIER_LAYOUT}, the state of an "
            "earlier one. Choose another --output"
        )
    return [Ledger(output_uri, model) for model in folders(store, LEDGERS)]
