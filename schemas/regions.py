"""The `regions` table: one row per connected area of an anomaly map above the model's map threshold, from the unquantised
map; cells that touch at a corner are connected. An image has at most 64 rows, its highest peaks."""

import pyarrow as pa

from schemas.columns import DATE, IMAGE_ID, MODEL, PERIOD, UNIT_ID
from schemas.commit import REGION
from schemas.field import field

VERSION = 2
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
        field("region", pa.int32(), "number of the region within its image, from 0 by descending peak", nullable=False),
        *(REGION.field(i) for i in range(REGION.num_fields)),
    ]
)
