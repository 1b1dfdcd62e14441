"""Lays the outcomes of tallies over rows of the inventory: which objects were gone, changed, refused or archived."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.ledger import Ledger
from pipeline.state.sorted_files import SortedFiles
from pipeline.storage.objects import listed
from schemas import tally


def tallied(ledger: Ledger, slices: Iterable[int]) -> list[int]:
    """Those of the slices whose tally exists; one request each."""
    return [number for number in slices if listed(ledger.store, ledger.tally_key(number)) is not None]


class Outcomes:
    """The outcomes in the tallies of some slices, for rows in ascending order of their objects."""

    def __init__(self, ledger: Ledger, slices: Iterable[int], prefix: str = ""):
        """slices: numbers of slices that have a tally."""
        self._tallies = {
            number: SortedFiles(ledger.store, [ledger.tally_key(number)], tally.SCHEMA.names, _as_written, prefix)
            for number in slices
        }

    def over(self, rows: pa.Table, objects: pa.Array | pa.ChunkedArray, last: str) -> pa.Table:
        """The rows with the outcomes of the slices that they are from; rows of other slices stay as they are.

        Args:
            rows: at least the columns `slice` and `outcome`; nulls for an object that is unknown.
            objects: of the rows.
            last: at least the last object; each call begins above the one before.
        """
        outcome = rows["outcome"]
        for number, files in self._tallies.items():
            found = files.upto(last)
            if not found:
                continue
            named = pa.concat_tables(found).combine_chunks()
            from_slice = pc.fill_null(pc.equal(rows["slice"], number), False)
            where = pc.index_in(objects.filter(from_slice), value_set=named["object"].combine_chunks())
            outcome = pc.replace_with_mask(_whole(outcome), _whole(from_slice), _whole(named["outcome"].take(where)))
        place = rows.schema.get_field_index("outcome")
        return rows.set_column(place, rows.schema.field(place), outcome)


def _as_written(piece: pa.Table) -> pa.Table:
    return piece.cast(tally.SCHEMA)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
