"""Sorted runs of inventory rows: those of sealed slices, their merging, and the tiers that it leaves in Parquet files.

Tiers shrink from old to new, each less than half as large as the one before, so that a ledger has few of them and each row is
written anew only a logarithmic number of times.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from pipeline.state import state_file
from pipeline.state.dated_names import new_name
from pipeline.state.ledger import Ledger
from pipeline.state.outcomes import Outcomes
from pipeline.state.sorted_files import SortedFiles, outside
from schemas.inventory import INVENTORY, OBJECTS

ROWS = pa.schema([field.with_nullable(field.name != "object") for field in INVENTORY])
"""INVENTORY for rows in memory, where what is said of an unknown object is null."""

ROW_GROUP = 1 << 14
PIECE = 4 * ROW_GROUP
PIECES_OF_A_FILE = 15  # 983,040 rows
WRITING = {
    "compression": "zstd",
    "use_dictionary": ["date", "slice", "outcome"],
    "column_encoding": {"object": "DELTA_BYTE_ARRAY", "etag": "DELTA_LENGTH_BYTE_ARRAY", "stamp": "DELTA_BYTE_ARRAY"},
    "write_statistics": ["object"],
    "store_schema": False,
    **state_file.WRITING,
}
"""Measured: 17.8 bytes an object, of which 16.5 are the etag. As 16 bytes of binary it would still take 16.0."""

FROM_SLICE = ["object", "etag", "stamp", "date"]


class TierFile(BaseModel):
    """name: of `inventory/files/<name>`, of pipeline/state/dated_names.py.  first, last: its lowest and highest object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    first: str
    last: str
    rows: int


class Tier(BaseModel):
    """A sorted run: every object once, with what the last of the slices `first_slice` to `last_slice` says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[TierFile, ...]
    rows: int
    first_slice: int
    last_slice: int


def files_prefix(ledger: Ledger) -> str:
    return f"{ledger.prefix}/inventory/files/"


def tier_rows(ledger: Ledger, tier: Tier, prefix: str = "") -> SortedFiles:
    """The rows of a tier as tables of ROWS; files and row groups wholly outside the prefix are left out."""
    keys = [files_prefix(ledger) + file.name for file in tier.files if not outside(file.first, file.last, prefix)]
    return SortedFiles(ledger.store, keys, INVENTORY.names, _from_tier, prefix)


def slice_rows(ledger: Ledger, number: int, parts: Sequence[str], prefix: str = "") -> SortedFiles:
    """The rows of a sealed slice as tables of ROWS, no outcomes in them.

    Args:
        parts: the names of its parts, in order.
        prefix: row groups wholly outside of it are left out.
    """
    keys = [ledger.part_key(part, "objects") for part in parts]
    return SortedFiles(ledger.store, keys, FROM_SLICE, partial(_from_slice, number), prefix)


def merged(runs: Sequence[SortedFiles], outcomes: Outcomes) -> Iterator[pa.Table]:
    """The rows of all runs in key order, every object once, as the first run that holds it has it; tables of ROWS.

    Args:
        runs: newest first.
        outcomes: laid over the rows that are left.
    """
    while bounds := [bound for run in runs if (bound := run.buffered_to()) is not None]:
        last = min(bounds)
        sections = [section for run in runs if (section := run.upto(last))]
        rows = pa.concat_tables(table for section in sections for table in section)
        if len(sections) > 1:
            rows = _each_object_once(rows.combine_chunks())
        yield outcomes.over(rows, rows["object"], last)


def _each_object_once(rows: pa.Table) -> pa.Table:
    """The rows in key order; of equal objects the first row."""
    return rows.take(pa.array(first_of_each(places(rows["object"].combine_chunks()))))


def places(objects: pa.Array) -> np.ndarray:
    """Which place each object has among the different ones in key order, from 0; (n,)."""
    return pc.rank(objects, tiebreaker="dense").to_numpy().astype(np.int64) - 1


def first_of_each(of_rows: np.ndarray, count: int | None = None) -> np.ndarray:
    """The first row at each place; -1 where there is none.

    Args:
        of_rows: the place of each row, (n,).
        count: of places; None for those of the rows.
    """
    first = np.full(of_rows.max(initial=-1) + 1 if count is None else count, -1)
    first[of_rows[::-1]] = np.arange(len(of_rows))[::-1]  # of several rows the one that is assigned last
    return first


def write_tier(ledger: Ledger, tables: Iterable[pa.Table], first_slice: int, last_slice: int) -> Tier:
    """Write rows in key order as files under names that nobody else has."""
    pieces = _pieces(tables)
    files: list[TierFile] = []
    for piece in pieces:
        files.append(_write_file(ledger, piece, islice(pieces, PIECES_OF_A_FILE - 1)))
    return Tier(files=tuple(files), rows=sum(file.rows for file in files), first_slice=first_slice, last_slice=last_slice)


def _write_file(ledger: Ledger, piece: pa.Table, more: Iterator[pa.Table]) -> TierFile:
    first = piece["object"][0].as_py()
    rows = 0
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, INVENTORY, **WRITING) as writer:
        while piece is not None:
            writer.write_table(piece.cast(INVENTORY), row_group_size=ROW_GROUP)
            rows += len(piece)
            last = piece["object"][-1].as_py()
            piece = next(more, None)
    name = f"{new_name()}.parquet"
    ledger.store.put_new(files_prefix(ledger) + name, sink.getvalue())
    return TierFile(name=name, first=first, last=last, rows=rows)


def _pieces(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in tables of PIECE rows; the last one may be shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        while rows + len(table) >= PIECE:
            yield pa.concat_tables([*waiting, table.slice(0, PIECE - rows)])
            table = table.slice(PIECE - rows)
            waiting, rows = [], 0
        if len(table):
            waiting.append(table)
            rows += len(table)
    if waiting:
        yield pa.concat_tables(waiting)


def _from_tier(piece: pa.Table) -> pa.Table:
    return piece.cast(ROWS)


def _from_slice(number: int, piece: pa.Table) -> pa.Table:
    columns = [piece[name].cast(OBJECTS.field(name).type) for name in FROM_SLICE]
    return pa.table([*columns, pa.repeat(pa.scalar(number, pa.int32()), len(piece)), pa.nulls(len(piece), pa.string())], ROWS)
