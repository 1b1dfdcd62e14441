"""The `maps` table: the anomaly map and embedding of every scored image. Find one by model, date, unit_id, image_id."""

import pyarrow as pa

from schemas.explanation import EXPLANATION
from schemas.field import field

VERSION = 2
PARTITION_BY = ["model", "date"]
SORT_BY = "unit_id"
ROW_GROUP_ROWS = 2_000

SCHEMA = pa.schema(
    [
        field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False),
        field("unit_id", pa.string(), "work unit in which the image was scored", nullable=False),
        field("model", pa.string(), "stable name of the model, not a version", nullable=False),
        field("date", pa.string(), "production day, or `none`", nullable=False),
        field("map", pa.binary(), "anomaly map, row-major uint8; value = map_offset + map_scale * byte"),
        field("map_height", pa.int16(), "rows of the map", "cells"),
        field("map_width", pa.int16(), "columns of the map", "cells"),
        field("map_scale", pa.float32(), "map value per byte step"),
        field("map_offset", pa.float32(), "map value of byte 0"),
        field("embedding", pa.binary(), "32 float16, little-endian: pooled whitened features"),
        *EXPLANATION,
    ]
)
