"""The `errors` table: one row per image or member that could not be scored."""

import pyarrow as pa

from schemas.columns import DATE, IMAGE_ID, MEMBER, MODEL, PERIOD, RUN_ID, URI, fault

VERSION = 2
PARTITION_BY = ["model", "period"]
SORT_BY = "uri, member, image_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        URI,
        MEMBER,
        IMAGE_ID,
        *fault(always=True),
        MODEL,
        DATE,
        PERIOD,
        RUN_ID,
    ]
)
