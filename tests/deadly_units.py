"""A planned slice and a second stage that ends its process, for tests of what becomes of such units."""

import os
import signal
from collections import Counter

import numpy as np
from e2e_archives import encoded, write_files, write_parquet, write_tars

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing
from pipeline.stages.config import StageConfig
from pipeline.state import plan, slices
from pipeline.state.committed import read_commits
from pipeline.state.entries import Created, Head, Promotion, add_entry, read_head, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.store import open_store

SLICE = 3  # after the entries that make the ledger
UNIT = 4


def planned(folder, files=(), tar=(), parquet=()) -> StageConfig:
    """A sealed slice: loose images of these names in units of UNIT, then a tar, in parts of UNIT, and a Parquet file."""
    if files:
        write_files(folder / "in" / "a", {name: encoded(i) for i, name in enumerate(files)})
    if tar:
        write_tars(folder / "in" / "b", {name: encoded(i) for i, name in enumerate(tar)})
    if parquet:
        write_parquet(folder / "in" / "c", {name: encoded(i) for i, name in enumerate(parquet)})
    source = SourceConfig(input_uri=str(folder / "in"), unit_images=UNIT)
    scoring = ScoringConfig(model="m", model_digest="d", source=source, decode=DecodeConfig(height=8, width=8))
    ledger = Ledger(str(folder / "out"), scoring.model)
    add_entry(ledger, Head(), Created(image_id="uri", key_pattern=None))
    add_entry(ledger, read_head(ledger), Promotion(digest=scoring.model_digest, artifact={}))
    store = open_store(source.input_uri)
    assert plan.plan_slice(ledger, plan.Wanted(store, lambda: Listing(source, store), lambda digest: scoring)) == SLICE
    return StageConfig(ledger, SLICE, scoring, "", "")


def stage(folder, dies):
    """A second stage that gives each image the score 1, unless `dies` says so of the names of the images that a unit brings.

    It is a local class, so that Ray's workers get it by value. Each process that makes one leaves a file in `folder`.
    """
    folder.mkdir(parents=True)

    class Stage:
        CALLS = 2

        def __init__(self, config):
            (folder / str(os.getpid())).touch()

        def __call__(self, row):
            from pipeline.scoring.scorer import UnitScores
            from pipeline.stages.envelope import pack_results
            from schemas.envelope import DecodedUnit, ScoredUnit
            from schemas.outcome import Outcome
            from schemas.scored_on import ScoredOn

            if Outcome.is_in(row):
                return row
            unit = DecodedUnit.of(row)
            rehearsal = "key" not in unit.rows.column_names
            rows = [] if rehearsal else unit.rows.filter(unit.rows["error"].is_null()).to_pylist()
            if dies([row["key"].split("/")[-1] for row in rows]):
                os.kill(os.getpid(), signal.SIGKILL)
            count = unit.rows.num_rows
            maps = [np.ones((2, 2), np.float32)] * count
            scores = UnitScores(np.ones(count, np.float32), maps, np.zeros((count, 32), np.float16))
            results = pack_results(scores, np.ones(count, bool), None) if count else None
            return ScoredUnit(unit.label, unit.seconds, unit.rows, ScoredOn("cpu"), None, results).table()

    return Stage


def committed(config) -> dict[str, str | None]:
    """The error, or None, of each image of the slice by name; every unit must be committed whole."""
    units = read_slice(config.ledger, SLICE).units
    assert len(list(slices.outlines(config.ledger, SLICE))) == units
    rows = [row for commit in read_commits(config.ledger, SLICE, 0, units) for row in commit.rows.to_pylist()]
    assert all((row["score"] is None) == (row["error"] is not None) for row in rows)
    assert not {row["image_id"]: None for row in rows}.keys() - Counter(row["image_id"] for row in rows)
    return {(row["member"] or row["uri"]).split("/")[-1]: row["error"] for row in rows}
