"""Where a run keeps its state: objects under `<output>/_flowscore/runs/<run_id>/`, each written once and never changed.

config.json                             the scoring config
slices/000000.parquet                   sealed plan slices, rows of schemas/plan.py
commits/000000/00000012-000003.parquet  one object a finished unit: slice / number - part
lease/000001.json, 000001.beat          who drives the run (pipeline/state/lease.py)
published/000000.json                   finalize has finished the slice
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from pipeline.state.faults import StateError
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Gone, Object
from pipeline.storage.store import Store, open_store

DELETE_THREADS, DELETE_BATCH = 16, 1000


class RunConflict(StateError, ValueError):
    """A run with another config has this run id."""


@dataclass(frozen=True)
class RunState:
    """The state of one run on storage; cheap to make, safe to send to workers."""

    output_uri: str
    run_id: str

    @property
    def store(self) -> Store:
        return open_store(self.output_uri)

    @property
    def prefix(self) -> str:
        return f"_flowscore/runs/{self.run_id}"

    def slice_key(self, slice_number: int) -> str:
        return f"{self.prefix}/slices/{slice_number:06d}.parquet"

    def commits_prefix(self, slice_number: int) -> str:
        return f"{self.prefix}/commits/{slice_number:06d}/"

    def commit_key(self, slice_number: int, number: int, part: int) -> str:
        return f"{self.commits_prefix(slice_number)}{number:08d}-{part:06d}.parquet"

    def published_key(self, slice_number: int) -> str:
        return f"{self.prefix}/published/{slice_number:06d}.json"

    def claim(self, config: ScoringConfig) -> None:
        """Store the run's config, or check that it equals the stored one.

        Raises:
            RunConflict: the run id was used with another config.
        """
        key = f"{self.prefix}/config.json"
        if self.store.put_new(key, config.canonical().encode()):
            return
        stored = json.loads(self.store.get(key))
        asked = json.loads(config.canonical())
        differing = sorted(k for k in stored.keys() | asked.keys() if stored.get(k) != asked.get(k))
        if differing:
            raise RunConflict(
                f"run_id must belong to this configuration; got {self.run_id!r}, which was started with other values of "
                f"{', '.join(differing)}. Leave out --run-id, or choose a new one"
            )

    def slices(self) -> list[int]:
        """Numbers of the sealed slices, ascending."""
        return [int(o.key[-14:-8]) for o in self.store.list(f"{self.prefix}/slices/")]

    def published(self) -> set[int]:
        """Numbers of the slices that finalize has finished."""
        return {int(o.key[-11:-5]) for o in self.store.list(f"{self.prefix}/published/")}

    def commits(self, slice_number: int, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int, Object]]:
        """(number, part, object) of the commits of units first <= number < end, ascending; one streamed listing."""
        prefix = self.commits_prefix(slice_number)
        start_after = f"{prefix}{first - 1:08d}-999999.parquet" if first else None
        for entry in self.store.list(prefix, start_after=start_after):
            number, part = _number_and_part(entry.key)
            if end is not None and number >= end:
                return
            yield number, part, entry

    def parts(self, slice_number: int, number: int) -> list[tuple[int, Object]]:
        """(part, object) of the commits of one unit, ascending; one request, which lists no other unit."""
        listed = self.store.list(f"{self.commits_prefix(slice_number)}{number:08d}-")
        return [(_number_and_part(entry.key)[1], entry) for entry in listed]


def _number_and_part(key: str) -> tuple[int, int]:
    """The arguments of `commit_key`."""
    number, part = key.rpartition("/")[2].removesuffix(".parquet").split("-")
    return int(number), int(part)


def drop_commits(state: RunState) -> int:
    """Delete the commits of published slices; returns how many. Their rows are in the tables, and nothing reads the
    commits again; the plan and the mark of publication stay."""
    deleted = 0
    with ThreadPoolExecutor(DELETE_THREADS) as pool:
        for slice_number in sorted(state.published()):
            keys = (entry.key for entry in state.store.list(state.commits_prefix(slice_number)))
            while batch := list(islice(keys, DELETE_BATCH)):
                deleted += len(list(pool.map(state.store.delete, batch)))
    return deleted


def run_ids(output_uri: str) -> list[str]:
    """Ids of the runs that have state under an output, ascending."""
    prefix = "_flowscore/runs/"
    store = open_store(output_uri)
    found: list[str] = []
    start_after = None
    while True:
        entry = next(iter(store.list(prefix, start_after=start_after)), None)
        if entry is None:
            return found
        found.append(entry.key[len(prefix) :].split("/", 1)[0])
        start_after = f"{prefix}{found[-1]}/\U0010ffff"


def read_config(state: RunState) -> dict:
    """The stored config of a run.

    Raises:
        ValueError: no run with that id has state under the output.
    """
    try:
        return json.loads(state.store.get(f"{state.prefix}/config.json"))
    except Gone:
        known = ", ".join(run_ids(state.output_uri)) or "none"
        raise ValueError(
            f"run_id must name a run under {state.output_uri}; got {state.run_id!r}. Runs there: {known}"
        ) from None
