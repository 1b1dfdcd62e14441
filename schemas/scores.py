"""The `scores` table: one row per model and image. An image is visible to readers when its row here is."""

import pyarrow as pa

from schemas.columns import (
    BYTES,
    CALIBRATION_DIGEST,
    CAPTURED,
    CONTENT_HASH,
    DATE,
    DEVICE,
    HARDWARE,
    IMAGE_ID,
    LOOK,
    LOT,
    MEMBER,
    MODEL,
    MODEL_DIGEST,
    PERIOD,
    PIECE,
    RUN_ID,
    SCORING_VERSION,
    UNIT_ID,
    URI,
    key_field,
)
from schemas.field import field

VERSION = 3
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
        field("calibration_group", pa.string(), "good pieces that the piece is compared with: `all`, or values of key columns"),
        PIECE,
        field("view", pa.string(), "which view of the piece the image is; null when there is one view"),
        field("score", pa.float32(), "raw anomaly score, never clamped; higher is more anomalous", nullable=False),
        field("rank", pa.int64(), "1 + calibration pieces that score at least as high as the image's piece", "pieces"),
        field("n_calibration", pa.int64(), "good pieces in the calibration group", "pieces"),
        field("p_value", pa.float64(), "the image's own p-value, for looking and never for decisions"),
        field("piece_p", pa.float64(), "p-value of its piece: rank / (n_calibration + 1)"),
        field("q_value", pa.float64(), "p-value of its piece adjusted within the lot by Benjamini-Hochberg"),
        field("verdict", pa.string(), "on its piece: ok, flagged or not_judged", nullable=False),
        field("reason", pa.string(), "why its piece is not judged, or was flagged though images are missing; else null"),
        field("regions", pa.int32(), "all connected areas of the map above the threshold; null when not computed", "regions"),
        field("grid", pa.string(), "rows and columns of its map, `32 x 48`: scores of one grid compare", "cells"),
        *LOOK,
        RUN_ID,
        UNIT_ID,
        DEVICE,
        HARDWARE,
        field("scored_at", pa.timestamp("us", "UTC"), "when the row was written for its publication", nullable=False),
    ]
)


def with_keys(key_columns: tuple[str, ...]) -> pa.Schema:
    """SCHEMA with the key columns at its end, in the order given."""
    return pa.schema([*SCHEMA, *map(key_field, key_columns)])
