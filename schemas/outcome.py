"""The outcome of a unit: the last thing that a scoring run learns of it."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from schemas.field import field

SCHEMA = pa.schema(
    [
        field("number", pa.int32(), "number of the unit or stream within its slice", nullable=False),
        field("part", pa.int32(), "running number of the part within its stream; 0 for a unit", nullable=False),
        field("scored", pa.int32(), "images of the commit with a score; 0 when there is none", "images", nullable=False),
        field("errors", pa.int32(), "images of the commit with an error; 0 when there is none", "images", nullable=False),
        field("new", pa.bool_(), "whether this run wrote the commit; false when it existed already", nullable=False),
        field("bytes_read", pa.int64(), "encoded bytes fetched for a new commit", "bytes", nullable=False),
        field("message", pa.string(), "why the unit stays open, one sentence; null when it is committed"),
        field("refused", pa.string(), "why no scorer there can go on, so that the run ends; null otherwise"),
        field("scored_on", pa.string(), "device and hardware of a new commit; null otherwise"),
    ]
)


class Outcome(NamedTuple):
    """A row of `SCHEMA`. A unit with nothing left to score travels through the stages as its outcome."""

    number: int
    part: int
    scored: int = 0
    errors: int = 0
    new: bool = False
    bytes_read: int = 0
    message: str | None = None
    refused: str | None = None
    scored_on: str | None = None

    def table(self) -> pa.Table:
        """A table of this one row."""
        return pa.Table.from_pylist([self._asdict()], schema=SCHEMA)

    @staticmethod
    def is_in(table: pa.Table) -> bool:
        """Whether the table holds outcomes, not units on their way."""
        return table.column_names == SCHEMA.names

    @classmethod
    def all_in(cls, table: pa.Table) -> Iterator["Outcome"]:
        """The outcomes in a table, one per row."""
        return (cls(**row) for row in table.to_pylist())
