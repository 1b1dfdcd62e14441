"""An engine that reads real units and writes real commits, and scores by the texts that the images are."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from pipeline.stages.config import StageConfig
from pipeline.stages.read import EncodedUnit, read_unit
from pipeline.state.commits import write_commit
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.storage.objects import StorageError
from schemas import commit as commit_schema
from schemas.envelope import WorkItem
from schemas.footer import Footer, StageSeconds
from schemas.outcome import Outcome


class Row(NamedTuple):
    """What the tables must hold of an image. object: identity.  score: None with an error."""

    object: str
    uri: str
    image_id: str
    member: str | None
    date: str
    digest: str
    unit_id: str
    run_id: str
    score: float | None
    error: str | None


class StandIn:
    """committed: the rows of every commit object that was ever made, by key.  scores: is told every key before it is made."""

    def __init__(self, scores: Callable[[str], None]) -> None:
        self.committed: dict[str, list[Row]] = {}
        self._scores = scores
        self._being_written: list[list[Row]] = []  # that of the command at work last

    def start(self) -> None:
        pass

    def stream(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        for item in items:
            for unit in read_unit(item, config):
                yield unit if isinstance(unit, Outcome) else self._commit(unit, config)

    def alone(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        raise AssertionError("nothing but a storage fault leaves a unit open here")

    def map(self, function: Callable, jobs: Iterable, memory_bytes: int = 0) -> Iterator:
        return map(function, list(jobs))

    def has_written(self, key: str) -> None:
        """The put of this key took effect."""
        assert key not in self.committed, f"{key} was written twice"
        self.committed[key] = self._being_written[-1]

    def _commit(self, unit: EncodedUnit, config: StageConfig) -> Outcome:
        label, rows = unit.label, [scored(row) for row in unit.encoded.to_pylist()]
        key = config.ledger.commit_key(config.slice, label.number, label.part)
        self._scores(key)
        mine = [
            Row(
                config.scoring.source.identity(row["uri"]),
                *(row["uri"], row["image_id"], row["member"], label.date, config.scoring.model_digest, label.unit_id),
                *(config.ledger.run_id(config.slice), row["score"], row["error"]),
            )
            for row in rows
        ]
        errors = sum(row["error"] is not None for row in rows)
        footer = Footer(
            slice=config.slice,
            scored=len(rows) - errors,
            errors=errors,
            device="cpu",
            scoring_version=SCORING_VERSION,
            seconds=StageSeconds(),
            **label._asdict(),
        )
        table = pa.Table.from_pylist(rows, commit_schema.SCHEMA)
        self._being_written.append(mine)
        try:
            new = write_commit(config.ledger.store, key, table, footer)
        except StorageError as error:
            return Outcome(label.number, label.part, message=str(error))
        finally:
            self._being_written.pop()
        return Outcome(label.number, label.part, footer.scored, errors, new, label.bytes_read)


def score_of(image: bytes) -> float | None:
    """The score of `good 0.25`; None for anything else."""
    word, _, number = image.partition(b" ")
    return float(pa.scalar(float(number), pa.float32()).as_py()) if word == b"good" else None


def scored(encoded: dict) -> dict:
    """A row of schemas/commit.py."""
    row = {name: encoded.get(name) for name in commit_schema.SCHEMA.names}
    if encoded["error"] is not None:
        return row
    score = score_of(encoded["encoded"])
    if score is None:
        return row | {"stage": "decode", "error": "corrupt", "message": "it is no image"}
    region = dict.fromkeys(commit_schema.REGION.names, 1) if score > 0.5 else None
    return row | {
        "score": score,
        "map": encoded["encoded"][:4],
        "map_height": 2,
        "map_width": 2,
        "map_scale": 1.0,
        "map_offset": 0.0,
        "embedding": bytes(64),
        "regions": [region] if region else [],
        "region_count": len([region] if region else []),
    }
