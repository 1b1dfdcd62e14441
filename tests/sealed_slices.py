"""Slices for tests of the state, sealed without a planner."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state.dated_names import new_name
from pipeline.state.entries import Created, Slice, SlicePart
from pipeline.state.ledger import Ledger
from schemas import tally
from schemas.inventory import OBJECTS

ROW_GROUP = 7  # so that small slices have several


def create(ledger: Ledger) -> None:
    assert ledger.entries.put_new(1, Created(image_id="uri", key_pattern=None).model_dump_json().encode())


def seal(ledger: Ledger, objects: dict[str, tuple[str, str, str]], parts: int = 1) -> int:
    """Seal a slice of these objects (etag, stamp, date by object) as the next entry; returns its number."""
    names = sorted(objects, key=str.encode)
    each = -(-len(names) // parts)
    sealed = []
    for start in range(0, len(names), each):
        part = SlicePart(name=new_name(), first=start, objects=len(names[start : start + each]), units=1)
        rows = [(name, *objects[name], None) for name in names[start : start + each]]
        put(ledger, ledger.part_key(part.name, "objects"), rows, OBJECTS)
        sealed.append(part)
    entry = Slice(
        parts=tuple(sealed),
        scorings=(),
        promotions=(),
        objects=len(names),
        units=len(sealed),
        images=len(names),
        streams=0,
        size=0,
        ignored=0,
        replans=0,
        last_day=max((day for _, _, day in objects.values()), default=None),
        planned_at="",
        code_version="",
    )
    number = ledger.entries.newest() + 1
    assert ledger.entries.put_new(number, entry.model_dump_json().encode())
    return number


def put_tally(ledger: Ledger, number: int, outcomes: dict[str, str]) -> None:
    """The outcomes by object of a slice whose units are all committed."""
    rows = [(name, outcomes[name], 1) for name in sorted(outcomes, key=str.encode)]
    put(ledger, ledger.tally_key(number), rows, tally.SCHEMA)


def put(ledger: Ledger, key: str, rows: list[tuple], schema: pa.Schema) -> None:
    """Write rows of a schema as a Parquet file with small row groups."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    pq.write_table(table, sink, row_group_size=ROW_GROUP)
    assert ledger.store.put_new(key, sink.getvalue().to_pybytes())
