"""The `errors` table: one row per image or member that could not be scored."""

import pyarrow as pa

from schemas.columns import DATE, IMAGE_ID, LOT, MEMBER, MODEL, MODEL_DIGEST, PERIOD, RUN_ID, URI, fault, key_field

VERSION = 3
PARTITION_BY = ["model", "period"]
SORT_BY = "uri, member, image_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        URI,
        MEMBER,
        IMAGE_ID,
        *fault(always=True),
        LOT,
        MODEL,
        MODEL_DIGEST.with_nullable(True),
        DATE,
        PERIOD,
        RUN_ID,
    ]
)


def with_keys(key_columns: tuple[str, ...]) -> pa.Schema:
    """SCHEMA with the key columns at its end, in the order given."""
    return pa.schema([*SCHEMA, *map(key_field, key_columns)])
