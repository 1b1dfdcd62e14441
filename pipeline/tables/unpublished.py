"""Shows what is scored and not in the tables: errors and scores of slices that are held, as SQL views in DuckDB.

Their rows are read from the slices' commits, as a publication would write them, and put into scratch files. Nothing under the
output changes. Rows of objects that a later slice has published are left out: those errors are mended.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.state import slices
from pipeline.state.commits import footer_of
from pipeline.state.entries import Slice, read_slice
from pipeline.state.ledger import Ledger, ledgers
from pipeline.state.publications import Publications
from pipeline.state.state_file import READING, intact
from pipeline.state.tally import read_tally
from pipeline.state.unclosed import unclosed
from pipeline.storage.ahead import threads_ahead
from pipeline.storage.objects import Object
from pipeline.storage.ranged import open_ranged
from pipeline.tables import sql
from pipeline.tables.delta import error_schema, key_columns, score_schema, with_missing
from pipeline.tables.faults import TablesError
from pipeline.tables.identities import without
from pipeline.tables.publish_slice import bases, superseded
from pipeline.tables.query import Tables
from pipeline.tables.rows import Same, error_rows, score_rows
from pipeline.tables.writer import widened
from schemas import commit
from schemas.days import period
from schemas.explanation import EXPLANATION
from schemas.field import field
from schemas.footer import Footer

SHOWN = ("errors", "scores")
NOT_PUBLISHED = "not published"
SLICE = field("slice", pa.int32(), "number of the slice among the entries of the model's ledger", nullable=False)
LARGE = {"map", "embedding", "regions", *(column.name for column in EXPLANATION)}
READ = [name for name in commit.SCHEMA.names if name not in LARGE]
THREADS = 16


class PublishedMeanwhile(TablesError, ValueError):
    """A slice was published, and its commits cleaned, while they were read."""


class Unpublished(NamedTuple):
    """The tables `errors` and `scores` of what is not published, and sentences that say which slices wait."""

    tables: Tables
    notes: list[str]


@dataclass(frozen=True)
class Waiting:
    """A slice that is scored and not published. images: of it.  left_out: its objects that a later slice has published."""

    ledger: Ledger
    number: int
    entry: Slice
    images: int
    left_out: pa.Array

    def schema(self, name: str) -> pa.Schema:
        """The columns that a publication would give its rows in a table. `scored_at` is null: they are not published."""
        keys = dict.fromkeys(name for scoring in self.entry.scorings for name in key_columns(scoring.source))
        return error_schema(keys) if name == "errors" else _not_yet(score_schema(keys))


def open_unpublished(output_uri: str, query: str, scratch: Path, allow_files: bool = False) -> Unpublished:
    """Views errors and scores of the slices that are scored and not published, with a column `slice`.

    Args:
        query: tables that it does not name get no rows, since all commits would have to be read for them.
        scratch: directory for the rows, and for queries that exceed the memory.
        allow_files: as for `open_tables`.
    Raises:
        PublishedMeanwhile: ask again.
    """
    notes: list[str] = []
    waiting = list(_waiting(output_uri, notes))
    connection = sql.open_database(output_uri, scratch)
    for name in SHOWN:
        asked = waiting if re.search(rf"\b{name}\b", query, re.IGNORECASE) else []
        schema = error_schema(()) if name == "errors" else _not_yet(score_schema(()))
        for each in waiting:
            schema = with_missing(schema, each.schema(name))
        if SLICE.name not in schema.names:  # a key may have this name; `run_id` says the slice too
            schema = schema.append(SLICE)
        files = [str(_written(each, name, schema, scratch)) for each in asked]
        connection.register(name, ds.dataset(files, schema, format="parquet") if files else schema.empty_table())
    if not allow_files:
        sql.lock(connection, [])
    return Unpublished(Tables(connection, {}, allow_files, SHOWN), notes or ["no slice waits: what is scored is published"])


def _waiting(output_uri: str, notes: list[str]) -> Iterator[Waiting]:
    """The slices that are scored and not published; says of each slice that is not published how it stands."""
    seal = Publications(output_uri).last_seal()
    for ledger in ledgers(output_uri):
        closed = seal.closed(ledger.model)
        for number in unclosed(ledger, closed):
            tally, named = read_tally(ledger, number), f"slice {number} of model {ledger.model}"
            if tally is None:
                notes.append(f"{named} has work units that are not scored; it is left out")
                continue
            left_out = superseded(ledger, number, closed)
            mended = f"; left out, since a later slice has published them: {len(left_out):,} objects" if len(left_out) else ""
            notes.append(f"{named} is not published: {tally.scored:,} scored, {tally.quarantined:,} in errors{mended}")
            yield Waiting(ledger, number, read_slice(ledger, number), tally.planned, left_out)


def _written(waiting: Waiting, name: str, schema: pa.Schema, scratch: Path) -> Path:
    """A file with the slice's rows of a table, with these columns. Memory holds a few commits."""
    path = scratch / f"{name}-{waiting.ledger.run_id(waiting.number)}.parquet"
    own = waiting.schema(name)
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
        for rows, same in _commits(waiting, only_errors=name == "errors"):
            made = error_rows(rows, own, same) if name == "errors" else _not_judged(score_rows(rows, own, same))
            if SLICE in list(schema):
                made = made.append_column(SLICE, pa.repeat(pa.scalar(waiting.number, SLICE.type), made.num_rows))
            writer.write_table(widened(made, schema).cast(schema))
    return path


def _commits(waiting: Waiting, only_errors: bool) -> Iterator[tuple[pa.Table, Same]]:
    """(rows, values that all of them share) of each commit; of one without errors nothing else is read, if only they count."""
    ledger, number, seen = waiting.ledger, waiting.number, 0
    digests = [scoring.model_digest for scoring in waiting.entry.scorings]
    scored_by = [outline.scoring for outline in slices.outlines(ledger, number)]

    def read(listed: tuple[int, int, Object]) -> tuple[int, Footer, pa.Table | None]:
        unit, _, entry = listed
        with intact(entry.key), open_ranged(ledger.store, entry.key, entry.etag) as file:
            parquet = pq.ParquetFile(file, **READING)
            footer = footer_of(parquet.metadata.metadata)
            return unit, footer, None if only_errors and not footer.errors else parquet.read(columns=READ)

    for unit, footer, rows in threads_ahead(read, ledger.commits(number), THREADS):
        seen += footer.scored + footer.errors
        if rows is None:
            continue
        same: Same = {
            "model": ledger.model,
            "model_digest": digests[scored_by[unit]],
            "scoring_version": footer.scoring_version,
            "date": footer.date,
            "period": period(footer.date),
            "run_id": ledger.run_id(number),
            "unit_id": footer.unit_id,
            "device": footer.device,
            "hardware": footer.hardware or None,
            "scored_at": None,
        }
        yield without(rows, waiting.left_out, bases(waiting.entry)), same
    if seen != waiting.images:
        raise PublishedMeanwhile(
            f"slice {number} of model {ledger.model} must stay unpublished while it is read; its commits are gone, "
            "since it was published. Ask again"
        )


def _not_judged(rows: pa.Table) -> pa.Table:
    """Rows of `scores` that say why they have no verdict."""
    place = rows.schema.get_field_index("reason")
    return rows.set_column(place, rows.schema.field(place), pa.repeat(pa.scalar(NOT_PUBLISHED), rows.num_rows))


def _not_yet(schema: pa.Schema) -> pa.Schema:
    place = schema.get_field_index("scored_at")
    return schema.set(place, schema.field(place).with_nullable(True))
