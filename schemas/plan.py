"""A row of a sealed plan slice: one unit of work, or one tar stream that will be cut into units while it is read."""

import pyarrow as pa

from schemas.field import field

VERSION = 1

OBJECT = pa.struct(
    [
        field("key", pa.string(), "object key below the input URI, exactly as listed", nullable=False),
        field("size", pa.int64(), "object size when listed", "bytes", nullable=False),
        field("etag", pa.string(), "object etag when listed; reads are pinned to it", nullable=False),
    ]
)

SCHEMA = pa.schema(
    [
        field("number", pa.int32(), "number of the unit or stream within its slice, from 0", nullable=False),
        field("unit_id", pa.string(), "hash (32 hex digits) of what is in the unit and how it is scored", nullable=False),
        field("source", pa.string(), "name of the module in pipeline/sources that reads it", nullable=False),
        field("date", pa.string(), "production day: the table partition that the rows go to", nullable=False),
        field("objects", pa.list_(OBJECT), "the objects in order; one for a shard", nullable=False),
        field("row_start", pa.int64(), "first row of a Parquet shard; 0 otherwise", nullable=False),
        field("row_count", pa.int64(), "rows of a Parquet shard; -1 when not a Parquet shard", nullable=False),
        field("images", pa.int64(), "images planned; null for a tar stream, whose count is known at its end"),
        field("size", pa.int64(), "encoded bytes to read, as listed", "bytes", nullable=False),
    ]
)
