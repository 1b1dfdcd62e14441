"""The `regions` table: one row per connected area of an anomaly map above the model's map threshold, from the unquantised
map, cells that touch at a corner included; an image has at most 64 here, those of the highest peaks."""

import pyarrow as pa

from schemas.commit import REGION
from schemas.field import field

VERSION = 1
PARTITION_BY = ["model", "date"]
SORT_BY = "unit_id"
ROW_GROUP_ROWS = 2_000

SCHEMA = pa.schema(
    [
        field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False),
        field("unit_id", pa.string(), "work unit in which the image was scored", nullable=False),
        field("model", pa.string(), "stable name of the model, not a version", nullable=False),
        field("date", pa.string(), "production day, or `none`", nullable=False),
        field("region", pa.int32(), "number of the region within its image, from 0 by falling peak", nullable=False),
        *(REGION.field(i) for i in range(REGION.num_fields)),
    ]
)
