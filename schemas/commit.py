"""The rows of one commit: every image of one unit, scored or with its error, in unit order.

Values that a whole unit shares are in the file's footer (schemas/footer.py), not in columns.
"""

import pyarrow as pa

from schemas.columns import CAPTURED, LOOK, MAP
from schemas.encoded import FAILURE, IDENTITY
from schemas.explanation import EXPLANATION
from schemas.field import field

VERSION = 4

WEIGHTED = "of the area, weighted by how far the map is above the threshold"

REGION = pa.struct(
    [
        field("x0", pa.int32(), "left edge of the smallest box of whole pixels around it, original pixels", "px"),
        field("y0", pa.int32(), "top edge of the box, original pixels", "px"),
        field("x1", pa.int32(), "right edge (exclusive), original pixels", "px"),
        field("y1", pa.int32(), "bottom edge (exclusive), original pixels", "px"),
        field("area_px", pa.float32(), "area of the parts of its map cells that show the image, original pixels", "px^2"),
        field("peak", pa.float32(), "largest map value of the region"),
        field("mass", pa.float32(), "sum of the map values of its map cells, each counted once"),
        field("centroid_x", pa.float32(), f"centroid {WEIGHTED}, from the left edge, original pixels", "px"),
        field("centroid_y", pa.float32(), f"centroid {WEIGHTED}, from the top edge, original pixels", "px"),
    ]
)

DECODED = [*CAPTURED, *LOOK]

SCHEMA = pa.schema(
    [
        *IDENTITY,
        *DECODED,
        field("score", pa.float32(), "raw anomaly score; higher is more anomalous; null with an error"),
        *MAP,
        *EXPLANATION,
        field("regions", pa.list_(REGION), "up to 64 regions with the highest peaks, highest first; null when not computed"),
        field(
            "region_count", pa.int32(), "all connected areas of the map above the threshold; null when not computed", "regions"
        ),
        *FAILURE,
    ]
)
