"""Slices whose rows of `scores` are published without a model, a commit or an image; tests of what happens to rows later."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.identity import image_id
from pipeline.input.keys import key_pattern
from pipeline.state.entries import Created, Slice, SlicePart, read_head
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change
from pipeline.state.scoring_config import ScoringConfig
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import score_schema
from pipeline.tables.publication import Draft, publish
from pipeline.tables.writer import PartitionWriter
from schemas.days import period

SORTED = [("score", "descending"), ("image_id", "ascending")]

Row = tuple[str, str | None, float]
"""Key below the input, member, score."""


def new_ledger(output: str | Path, pattern: str | None, model: str = "tiles") -> Ledger:
    ledger = Ledger(str(output), model)
    assert ledger.entries.put_new(1, Created(image_id="uri", key_pattern=pattern).model_dump_json().encode())
    return ledger


def seal_slice(ledger: Ledger, input_uri: str) -> int:
    """Seal a slice of one unit with the ledger's key pattern; returns its number."""
    source = SourceConfig(input_uri=input_uri, key_pattern=read_head(ledger).key_pattern)
    scoring = ScoringConfig(model=ledger.model, model_digest="d", source=source, decode=DecodeConfig(height=8, width=8))
    counts = dict.fromkeys(("objects", "units", "images", "streams", "size", "ignored", "replans"), 1)
    part = SlicePart(name="p", first=0, objects=1, units=1)
    same = {"promotions": (1,), "planned_at": "now", "code_version": "1", "last_day": None}
    entry = Slice(parts=(part,), scorings=(scoring,), **counts, **same)
    number = ledger.entries.newest() + 1
    assert ledger.entries.put_new(number, entry.model_dump_json().encode())
    return number


def publish_rows(ledger: Ledger, input_uri: str, rows: list[Row], date: str = "2026-01-02") -> int:
    """Seal a slice and publish its rows with the key columns that reading the images gives; returns its number."""
    number = seal_slice(ledger, input_uri)
    source = SourceConfig(input_uri=input_uri, key_pattern=read_head(ledger).key_pattern)
    schema = score_schema(key_pattern(source.key_pattern).fields if source.key_pattern else ())
    table = pa.Table.from_pylist([_row(ledger, number, source, *row, date) for row in rows], schema)
    with TemporaryDirectory() as folder:
        partition = {"model": ledger.model, "period": period(date)}
        with PartitionWriter(ledger.store, "scores", schema, partition, "rows", Path(folder)) as writer:
            writer.write(table.sort_by(SORTED))
    change = Change(tuple(writer.files), (), schema_text(schema))
    publish(ledger.output_uri, lambda seal, _: Draft(seal, ledger.model, "slice", {"scores": change}, number))
    return number


def _row(ledger: Ledger, number: int, source: SourceConfig, key: str, member: str | None, score: float, date: str) -> dict:
    uri = f"{source.input_uri}/{key}"
    return {
        "image_id": image_id(uri, member),
        "uri": uri,
        "member": member,
        "bytes": 10,
        "date": date,
        "period": period(date),
        "model": ledger.model,
        "model_digest": "d",
        "scoring_version": 1,
        "score": score,
        "verdict": "not_judged",
        "run_id": ledger.run_id(number),
        "unit_id": "u" * 32,
        "device": "cpu-float32",
        "scored_at": datetime(2026, 1, 3, tzinfo=UTC),
        **source.keys(key, None if member is None else member.removeprefix("./")),
    }
