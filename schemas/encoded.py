"""What a source hands on: the encoded images of exactly one unit, in unit order."""

import pyarrow as pa

from schemas.field import field

KEYS = pa.map_(pa.string(), pa.string())

IDENTITY = [
    field("position", pa.int32(), "position of the image within its unit, from 0", nullable=False),
    field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False),
    field("uri", pa.string(), "canonical URI of the object that holds the image", nullable=False),
    field("member", pa.string(), "tar member name or Parquet row id; null for a loose file"),
    field("key", pa.string(), "path below the input URI, with /member when there is one", nullable=False),
    field("keys", KEYS, "key columns read from the path by the configured pattern", nullable=False),
    field("lot", pa.string(), "lot that the image belongs to; null when unknown"),
    field("content_hash", pa.string(), "first 128 bits of SHA-256 of the encoded bytes, 32 hex digits; null when unread"),
    field("bytes", pa.int64(), "encoded size", "bytes"),
]

FAILURE = [
    field("stage", pa.string(), "stage that failed: read, decode or score; null when nothing failed"),
    field("error", pa.string(), "short reason code, for example truncated, gone, changed; null when nothing failed"),
    field("message", pa.string(), "one sentence for a person; null when nothing failed"),
    field("byte_offset", pa.int64(), "offset within the object at which the fault was met, where there is one", "bytes"),
]

SCHEMA = pa.schema(
    [
        *IDENTITY,
        field("encoded", pa.large_binary(), "the image as stored; null when it could not be read"),
        *FAILURE,
    ]
)
