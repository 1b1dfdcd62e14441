"""The rows that a source returns: the encoded images of exactly one unit, in unit order."""

import pyarrow as pa

from schemas.columns import BYTES, CONTENT_HASH, IMAGE_ID, LOT, MEMBER, URI, fault
from schemas.field import field

KEYS = pa.map_(pa.string(), pa.string())

IDENTITY = [
    field("position", pa.int32(), "position of the image within its unit, from 0", nullable=False),
    IMAGE_ID,
    URI,
    MEMBER,
    field("key", pa.string(), "path below the input URI, with /member when there is one", nullable=False),
    field("keys", KEYS, "key columns read from the path by the configured pattern", nullable=False),
    LOT,
    CONTENT_HASH,
    BYTES,
]

FAILURE = fault(always=False)

SCHEMA = pa.schema(
    [
        *IDENTITY,
        field("encoded", pa.large_binary(), "the image as stored; null when it could not be read"),
        *FAILURE,
    ]
)
