"""The rows of one commit: every image of one unit, scored or with its error, in unit order.

What the whole unit shares stands in the file's footer (schemas/footer.py), not in columns.
"""

import pyarrow as pa

from schemas.encoded import FAILURE, IDENTITY
from schemas.explanation import EXPLANATION
from schemas.field import field

VERSION = 3

WEIGHTED = "of the area, weighted by how far the map is above the threshold"

REGION = pa.struct(
    [
        field("x0", pa.int32(), "left edge of the smallest box of whole pixels around it, original pixels", "px"),
        field("y0", pa.int32(), "top edge of the box, original pixels", "px"),
        field("x1", pa.int32(), "right edge (exclusive), original pixels", "px"),
        field("y1", pa.int32(), "bottom edge (exclusive), original pixels", "px"),
        field("area_px", pa.float32(), "area of its map cells as far as they show the image, original pixels", "px^2"),
        field("peak", pa.float32(), "largest map value of the region"),
        field("mass", pa.float32(), "sum of the map values of its map cells, each counted once"),
        field("centroid_x", pa.float32(), f"centroid {WEIGHTED}, from the left edge, original pixels", "px"),
        field("centroid_y", pa.float32(), f"centroid {WEIGHTED}, from the top edge, original pixels", "px"),
    ]
)

DECODED = [
    field("width", pa.int32(), "width of the stored image after EXIF orientation", "px"),
    field("height", pa.int32(), "height of the stored image after EXIF orientation", "px"),
    field("captured_at", pa.timestamp("us", "UTC"), "EXIF capture time; null when unknown"),
    field("brightness", pa.float32(), "mean grey value of the resized image, 0 to 255"),
    field("contrast", pa.float32(), "standard deviation of the grey values of the resized image"),
    field("sharpness", pa.float32(), "variance of the 4-neighbour Laplacian of the resized grey image"),
]

SCHEMA = pa.schema(
    [
        *IDENTITY,
        *DECODED,
        field("score", pa.float32(), "raw anomaly score; higher is more anomalous; null with an error"),
        field("map", pa.binary(), "anomaly map, row-major uint8; value = map_offset + map_scale * byte"),
        field("map_height", pa.int16(), "rows of the map"),
        field("map_width", pa.int16(), "columns of the map"),
        field("map_scale", pa.float32(), "map value per byte step"),
        field("map_offset", pa.float32(), "map value of byte 0"),
        field("embedding", pa.binary(), "32 float16: pooled whitened features"),
        *EXPLANATION,
        field("regions", pa.list_(REGION), "the up to 64 regions of the highest peaks, highest first; null when not computed"),
        field("region_count", pa.int32(), "all connected areas of the map above threshold; null when not computed", "regions"),
        *FAILURE,
    ]
)
