"""The objects of a slice in key order, and the inventory that is their fold: what a ledger knows of every object."""

import pyarrow as pa

from schemas.field import field

VERSION = 1

IDENTITY = field(
    "object",
    pa.string(),
    "the object's URI, or key://<input name>/<key> in mode `key`; ascending by its UTF-8 bytes",
    nullable=False,
)
ETAG = field("etag", pa.string(), "etag when listed", nullable=False)
STAMP = field("stamp", pa.string(), "storage class and modification time when listed", nullable=False)
DAY = field("date", pa.string(), "production day that the object was planned under first", nullable=False)

OBJECTS = pa.schema(
    [
        IDENTITY,
        ETAG,
        STAMP,
        DAY,
        field("before", pa.int32(), "the slice that held the object last before this one; null for a new object"),
    ]
)

INVENTORY = pa.schema(
    [
        IDENTITY,
        ETAG,
        STAMP,
        DAY,
        field("slice", pa.int32(), "the last slice that holds the object", nullable=False),
        field("outcome", pa.string(), "its error in the tally of that slice; null without one"),
    ]
)
