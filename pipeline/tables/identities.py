"""Tells which object a row of the tables comes from: rows name it by its current URI, ledgers by its identity.

Both are the same in mode `uri`. In mode `key` an input may move, and `bases` says where it ever was: pairs of a URI prefix
and the prefix of the identities there, such as ("s3://old/in/", "key://line7/"). Of prefixes within each other the longest
counts.
"""

import pyarrow as pa
import pyarrow.compute as pc

Bases = tuple[tuple[str, str], ...]


def identities(uris: pa.Array | pa.ChunkedArray, bases: Bases) -> pa.Array | pa.ChunkedArray:
    """The identities of the objects at these URIs; a URI at no base is its own identity."""
    found = uris
    for place, named in sorted(bases, key=lambda base: len(base[0])):
        moved = pc.binary_join_element_wise(named, pc.utf8_slice_codeunits(uris, len(place)), "")
        found = pc.if_else(pc.starts_with(uris, pattern=place), moved, found)
    return found


def without(rows: pa.Table, objects: pa.Array, bases: Bases) -> pa.Table:
    """The rows, by their `uri`, that are not of these objects."""
    return rows.filter(pc.invert(pc.is_in(identities(rows["uri"], bases), objects))) if len(objects) else rows


def identity_bounds(first: str, last: str, bases: Bases) -> tuple[str, str] | None:
    """The first and last identity of objects at URIs from `first` to `last`; None when they are at several bases."""
    if not bases:
        return first, last
    at = [(place, named) for place, named in bases if first.startswith(place) and last.startswith(place)]
    if len(at) != 1 or any(other != at[0][0] and other.startswith(at[0][0]) for other, _ in bases):
        return None
    ((place, named),) = at
    return named + first[len(place) :], named + last[len(place) :]
