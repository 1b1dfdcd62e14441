"""Commits: every finished unit leaves one object. Lists what is not finished yet."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.state import state_file
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import READING, intact
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store
from schemas import commit as schema
from schemas.envelope import WorkItem
from schemas.footer import Footer
from schemas.plan import UnitOutline

FOOTER_PREFIX = "flowscore."
WRITING = {
    "compression": "zstd",
    "use_dictionary": ["uri", "lot", "stage", "error"],
    "write_statistics": False,
    "store_schema": False,
    **state_file.WRITING,
}


def write_commit(store: Store, key: str, rows: pa.Table, footer: Footer) -> bool:
    """Write a unit's rows with one conditional PUT, whole or not at all.

    Args:
        rows: schemas/commit.py rows in unit order.
    Returns:
        False when the commit already exists: another attempt has finished the unit.
    """
    metadata = {f"{FOOTER_PREFIX}{name}": text for name, text in footer.texts().items()}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema.SCHEMA, **WRITING) as writer:
        writer.write_table(rows.cast(schema.SCHEMA))
        writer.add_key_value_metadata(metadata)
    return store.put_new(key, sink.getvalue())


def footer_of(metadata: dict[bytes, bytes] | None) -> Footer:
    """The footer in a commit file's key-value metadata. Raises KeyError, TypeError, ValueError when there is none."""
    named = {key.decode().removeprefix(FOOTER_PREFIX): text.decode() for key, text in (metadata or {}).items()}
    return Footer.parse(named)


def read_footer(store: Store, key: str) -> Footer:
    """The footer of one commit; reads the end of the file only."""
    with intact(key), open_ranged(store, key) as file:
        return footer_of(pq.read_metadata(file).metadata)


def pending(ledger: Ledger, slice_number: int, units: Iterable[UnitOutline]) -> Iterator[WorkItem]:
    """What is left of a slice's units: plan minus commits, as a merge of two ordered streams.

    Args:
        units: ascending, contiguous numbers; a unit without a count of images is a stream.
    """
    units = list(units)
    if not units:
        return
    done: dict[int, list[tuple[int, str]]] = {
        number: [(part, entry.key) for _, part, entry in group]
        for number, group in groupby(
            ledger.commits(slice_number, units[0].number, units[-1].number + 1), key=lambda commit: commit[0]
        )
    }
    streams = [unit.number for unit in units if unit.images is None and unit.number in done]
    last = {number: next(reversed(_without_gap(done[number])), None) for number in streams}
    with ThreadPoolExecutor(16) as pool:
        footers = dict(
            zip(
                last,
                pool.map(lambda commit: commit and read_footer(ledger.store, commit[1]), last.values()),
                strict=True,
            )
        )
    for unit in units:
        number = unit.number
        if number not in done:
            yield WorkItem(number)
        elif number in footers:
            footer = footers[number]
            if footer is None:
                yield WorkItem(number)
            elif footer.next_offset is not None:
                yield WorkItem(number, footer.next_offset, footer.part + 1)


def committed_since(ledger: Ledger, slice_number: int, item: WorkItem) -> list[Footer]:
    """Footers of the item's parts that were committed after it was made a work item, in order and without a gap.

    They exist when a process or a node dies and its tasks run again, or when a second driver is at work; what was committed
    is not read again.
    """
    parts = [(part, entry.key) for part, entry in ledger.parts_of(slice_number, item.number) if part >= item.part]
    return [read_footer(ledger.store, key) for _, key in _without_gap(parts, item.part)]


def _without_gap(parts: list[tuple[int, str]], first: int = 0) -> list[tuple[int, str]]:
    """The parts from `first` up to the first missing one."""
    return [found for expected, found in enumerate(parts, first) if found[0] == expected]


def members_before(ledger: Ledger, slice_number: int, item: WorkItem) -> dict[str, int]:
    """How often each member name occurred in the parts of a stream before `item`: ordinals continue from there."""
    seen: dict[str, int] = {}
    for part in range(item.part):
        key = ledger.commit_key(slice_number, item.number, part)
        with intact(key), open_ranged(ledger.store, key) as file:
            for name in pq.ParquetFile(file, **READING).read(columns=["member"])["member"].to_pylist():
                if name is not None:
                    seen[name] = seen.get(name, 0) + 1
    return seen
