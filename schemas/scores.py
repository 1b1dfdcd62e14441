"""The `scores` table: one row per model and image. An image is visible to readers when its row here is."""

import pyarrow as pa

from schemas.columns import (
    BYTES,
    CALIBRATION_DIGEST,
    CAPTURED,
    CONTENT_HASH,
    DATE,
    DEVICE,
    IMAGE_ID,
    LOOK,
    LOT,
    MEMBER,
    MODEL,
    MODEL_DIGEST,
    PERIOD,
    RUN_ID,
    SCORING_VERSION,
    UNIT_ID,
    URI,
)
from schemas.field import field

VERSION = 2
PARTITION_BY = ["model", "period"]
SORT_BY = "score desc, image_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        IMAGE_ID,
        URI,
        MEMBER,
        CONTENT_HASH,
        BYTES,
        *CAPTURED,
        LOT,
        DATE,
        PERIOD,
        MODEL,
        MODEL_DIGEST,
        SCORING_VERSION,
        CALIBRATION_DIGEST,
        field("calibration_group", pa.string(), "group of good images that the score is compared with"),
        field("score", pa.float32(), "raw anomaly score, never clamped; higher is more anomalous", nullable=False),
        field("rank", pa.int64(), "number of calibration scores that are at least this score", "images"),
        field("n_calibration", pa.int64(), "good images in the calibration group", "images"),
        field("p_value", pa.float64(), "(1 + rank) / (n_calibration + 1)"),
        field("q_value", pa.float64(), "p-value adjusted within the lot by Benjamini-Hochberg"),
        field("verdict", pa.string(), "verdict by the calibration: ok, flagged or not_judged", nullable=False),
        field("regions", pa.int32(), "all connected areas of the map above the threshold; null when not computed", "regions"),
        *LOOK,
        RUN_ID,
        UNIT_ID,
        DEVICE,
        field("scored_at", pa.timestamp("us", "UTC"), "when the row was written for its publication", nullable=False),
    ]
)


def key_field(name: str) -> pa.Field:
    """The nullable string column of one key of the path pattern, such as `line` or `product`."""
    return field(name, pa.string(), f"key column: the part of the path that the key pattern calls {{{name}}}")


def with_keys(key_columns: tuple[str, ...]) -> pa.Schema:
    """SCHEMA with the key columns at its end, in the order given."""
    return pa.schema([*SCHEMA, *(key_field(name) for name in key_columns)])
