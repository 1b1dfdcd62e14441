"""The `maps` table: the anomaly map and embedding of every scored image. Find one by model, date, unit_id, image_id."""

import pyarrow as pa

from schemas.columns import DATE, IMAGE_ID, MAP, MODEL, PERIOD, UNIT_ID
from schemas.explanation import EXPLANATION

VERSION = 3
PARTITION_BY = ["model", "period"]
SORT_BY = "unit_id"
ROW_GROUP_ROWS = 2_000

SCHEMA = pa.schema(
    [
        IMAGE_ID,
        UNIT_ID,
        MODEL,
        DATE,
        PERIOD,
        *MAP,
        *EXPLANATION,
    ]
)
