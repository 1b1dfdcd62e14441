"""What a ledger knows of listed objects: a merge of the listing with the inventory and the slices after it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.entries import read_slice
from pipeline.state.inventory import Base
from pipeline.state.ledger import Ledger
from pipeline.state.outcomes import Outcomes, tallied
from pipeline.state.tiers import ROWS, first_of_each, places, slice_rows, tier_rows
from schemas.tally import MAY_CHANGE

KNOWN = ROWS.remove(ROWS.get_field_index("object"))


class Known:
    """What the slices up to a point say of objects, asked in ascending order.

    Memory: a few row groups of each tier and each slice. Tallies count that exist when it is made. Every call may raise
    DamagedState and the errors of `Store.get`.
    """

    def __init__(self, ledger: Ledger, base: Base, slices: Sequence[int], prefix: str):
        """
        Args:
            slices: numbers of the sealed slices after the base, ascending.
            prefix: of all objects that will be asked for; what lies wholly outside of it is not read. Empty for none.
        """
        parts = {number: [part.name for part in read_slice(ledger, number).parts] for number in reversed(slices)}
        self._runs = [slice_rows(ledger, number, names, prefix) for number, names in parts.items()]
        self._runs += [tier_rows(ledger, tier, prefix) for tier in reversed(base.tiers)]
        self._outcomes = Outcomes(ledger, tallied(ledger, [*base.untallied, *slices]), prefix)

    def of(self, objects: pa.Array) -> pa.Table:
        """What is known of each object, by the last slice that holds it; nulls where it is unknown.

        Args:
            objects: strings, ascending, above those of the call before.
        Returns:
            The columns of schemas.inventory.INVENTORY without `object`, a row for each of the objects.
        """
        if not len(objects):
            return KNOWN.empty_table()
        last = objects[-1].as_py()
        newest_first = [pa.concat_tables(tables) for run in self._runs if (tables := run.upto(last))]
        return self._outcomes.over(_aligned(newest_first, objects), objects, last)


def _aligned(newest_first: list[pa.Table], objects: pa.Array) -> pa.Table:
    """For each object its row in the first of the tables that has one, without the column `object`."""
    asked = pa.chunked_array([objects])
    above: list[pa.Table] = [ROWS.empty_table()]
    for table in newest_first:
        if table["object"].equals(asked):  # nearly always true of the largest tier: few objects are new, at few places
            return _above(pa.concat_tables(above), objects, table)
        above.append(table)
    rows = pa.concat_tables(above)
    place = places(pa.concat_arrays([objects, *rows["object"].chunks]))
    of_objects, of_rows = np.split(place, [len(objects)])
    where = first_of_each(of_rows, place.max() + 1)[of_objects]
    return rows.select(KNOWN.names).take(pa.array(where, mask=where < 0))


def _above(rows: pa.Table, objects: pa.Array, table: pa.Table) -> pa.Table:
    """For each object the first of the rows that is about it, else its row of the table, which has exactly the objects.

    The rows are few: hashing them is faster than ranking all.
    """
    if not len(rows):
        return table.select(KNOWN.names)
    first = pc.index_in(objects, value_set=rows["object"]).cast(pa.int64())
    where = pc.coalesce(first, pa.array(np.arange(len(rows), len(rows) + len(objects))))
    return pa.concat_tables([rows, table]).select(KNOWN.names).take(where)


def is_new(listed: pa.Table, known: pa.Table, retry_errors: bool) -> pa.BooleanArray:
    """Which listed objects are to be planned: unknown ones, changed ones, and those whose last outcome may be another now.

    Args:
        listed: columns `etag` and `stamp`, as listed.
        known: what `Known.of` says of the same objects.
        retry_errors: plan objects with any error again though their listing is the same.
    """
    new = pc.fill_null(pc.not_equal(listed["etag"], known["etag"]), True)  # null for an unknown object
    if known["outcome"].null_count < len(known):
        again = pc.is_valid(known["outcome"])
        if not retry_errors:
            again = pc.is_in(known["outcome"], pa.array(MAY_CHANGE))
            again = pc.and_kleene(again, pc.not_equal(listed["stamp"], known["stamp"]))  # the stamp of an unknown one is null
        new = pc.or_(new, again)
    return new.combine_chunks()
