"""Reads the few columns of images that verdicts depend on: of a slice's commits, and of files that are in the tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.state.committed import read_commits
from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store
from pipeline.tables.identities import Bases, without
from pipeline.tables.replaced import Replaced
from pipeline.tables.writer import widened
from pipeline.verdicts.gathered import Judges, Parts, columns, part_of
from pipeline.verdicts.names import grid
from pipeline.verdicts.shown import places

SEEN = pa.schema([("score", pa.float32()), ("scoring_version", pa.int32())])
"""The columns that are no text."""
IN_A_COMMIT = ("uri", "member", "lot", "keys", "score", "map_height", "map_width")
BATCH_ROWS = 122_880


class UnitRange(NamedTuple):
    """The units first <= number < end of a slice, which one model scores."""

    first: int
    end: int
    model_digest: str


@dataclass(frozen=True)
class CommitsJob:
    """Look at the images of some units of a slice, without the objects that are left out."""

    ledger: Ledger
    slice: int
    units: tuple[UnitRange, ...]
    left_out: pa.Array
    bases: Bases
    judges: Judges


@dataclass(frozen=True)
class FileJob:
    """Look at the images of one file of `scores` or `errors`.

    replaced: rows that are about to go and do not count; None for none.
    only: places to look at; None for all.
    """

    ledger: Ledger
    table: str
    file: DataFile
    judges: Judges
    replaced: Replaced | None = None
    only: pa.Array | None = None


def see_commits(job: CommitsJob) -> Parts:
    """What the images say, by model; those of models that have no judge here are left out. Raises IncompleteSlice."""
    found: dict[str, list[pa.Table]] = {}
    for first, end, digest in job.units:
        judge = job.judges.get(digest)
        if judge is None:
            continue
        for _, footer, rows in read_commits(job.ledger, job.slice, first, end, list(IN_A_COMMIT)):
            rows = without(rows, job.left_out, job.bases)
            same: dict[str, str | int] = {
                "date": footer.date,
                "device": footer.device,
                "scoring_version": footer.scoring_version,
                "run_id": job.ledger.run_id(job.slice),
            }
            found.setdefault(digest, []).append(_of_commit(rows, columns(judge), same))
    return {digest: part_of(pa.concat_tables(tables), job.judges[digest]) for digest, tables in found.items()}


def see_file(job: FileJob) -> Parts:
    """What the file's images say, by model; those of models that have no judge here are left out."""
    names = tuple(dict.fromkeys(name for judge in job.judges.values() for name in columns(judge)))
    found: dict[str, list[pa.Table]] = {}
    for rows in read_columns(job.ledger.store, job.table, job.file, (*names, "model_digest", "uri")):
        stays = None if job.replaced is None else pc.invert(job.replaced.among(rows["uri"]))
        for digest, judge in job.judges.items():
            mine = pc.equal(rows["model_digest"], digest)
            mine = mine if stays is None else pc.and_(mine, stays)
            if job.only is not None:
                mine = pc.and_(mine, pc.is_in(places(rows["lot"], rows["date"], digest), job.only))
            found.setdefault(digest, []).append(rows.filter(pc.fill_null(mine, False)).select(list(columns(judge))))
    parts = {digest: pa.concat_tables(tables) for digest, tables in found.items()}
    return {digest: part_of(rows, job.judges[digest]) for digest, rows in parts.items() if rows.num_rows}


def replaced_places(job: FileJob) -> set[str]:
    """The places of the rows that are about to go and belong to a lot, or to a piece of several images."""
    found: set[str] = set()
    assert job.replaced is not None
    for rows in read_columns(job.ledger.store, job.table, job.file, ("lot", "date", "model_digest", "uri")):
        goes = rows.filter(job.replaced.among(rows["uri"]))
        for digest, judge in job.judges.items():
            mine = pc.fill_null(pc.equal(goes["model_digest"], digest), False)
            mine = goes.filter(mine if judge.by_piece else pc.and_(mine, pc.is_valid(goes["lot"])))
            found |= set(places(mine["lot"], mine["date"], digest).to_pylist())
    return found


def read_columns(
    store: Store, table: str, file: DataFile, names: Sequence[str], schema: pa.Schema = SEEN
) -> Iterator[pa.Table]:
    """Columns of a file's rows in order, null where it lacks one.

    Args:
        schema: of columns that are no text; others are.
    """
    wanted = columns_of(names, schema)
    with open_ranged(store, f"{table}/{file.path}") as opened:
        parquet = pq.ParquetFile(opened)
        there = [name for name in wanted.names if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(BATCH_ROWS, columns=there):
            yield widened(pa.Table.from_batches([batch]), wanted)


def columns_of(names: Iterable[str], schema: pa.Schema = SEEN) -> pa.Schema:
    """Columns of these names, each once: as the schema has them, and of text where it has none."""
    return pa.schema([schema.field(name) if name in schema.names else (name, pa.string()) for name in dict.fromkeys(names)])


def _of_commit(rows: pa.Table, names: Iterable[str], same: Mapping[str, str | int]) -> pa.Table:
    rows = rows.append_column("grid", grid(rows["map_height"], rows["map_width"]))
    found = {}
    for name, dtype in zip(names, columns_of(names).types, strict=True):
        if name in same:
            found[name] = pa.repeat(pa.scalar(same[name], dtype), rows.num_rows)
        elif name in rows.column_names:
            found[name] = rows[name].cast(dtype)
        else:
            found[name] = pc.map_lookup(rows["keys"], pa.scalar(name), occurrence="first").cast(dtype)
    return pa.table(found)
