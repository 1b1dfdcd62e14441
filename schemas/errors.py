"""The `errors` table: one row per image or member that could not be scored."""

import pyarrow as pa

from schemas.field import field

VERSION = 1
PARTITION_BY = ["model", "date"]
SORT_BY = "uri, member, image_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        field("uri", pa.string(), "canonical URI of the object that holds the image", nullable=False),
        field("member", pa.string(), "tar member name or Parquet row id within the object; null for a loose file"),
        field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False),
        field("stage", pa.string(), "stage that failed: read, decode or score", nullable=False),
        field("error", pa.string(), "short reason code, for example truncated, gone, changed", nullable=False),
        field("message", pa.string(), "one sentence for a person"),
        field("byte_offset", pa.int64(), "offset within the object at which the fault was met", "bytes"),
        field("model", pa.string(), "stable name of the model, not a version", nullable=False),
        field("date", pa.string(), "production day, or `none`", nullable=False),
        field("run_id", pa.string(), "scoring run that met the error", nullable=False),
    ]
)
