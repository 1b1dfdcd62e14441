"""The `lots` table: the verdict on a lot, one row per lot and revision. It is written once a model is calibrated."""

import pyarrow as pa

from schemas.columns import CALIBRATION_DIGEST, DATE, MODEL, MODEL_DIGEST, PERIOD
from schemas.field import field

VERSION = 2
PARTITION_BY = ["model", "period"]
SORT_BY = "lot, revision"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        field("lot", pa.string(), "the lot", nullable=False),
        MODEL,
        DATE,
        PERIOD,
        field("revision", pa.int32(), "0 for the first decision; late images that change it add 1 each time", nullable=False),
        field("expected", pa.int64(), "images that the manifest announced; null without a manifest", "images"),
        field("planned", pa.int64(), "images planned", "images"),
        field("scored", pa.int64(), "images with a score", "images"),
        field("unreadable", pa.int64(), "images that could not be scored", "images"),
        field("flagged", pa.int64(), "images flagged", "images"),
        field(
            "min_flaggable", pa.int64(), "fewest images that must exceed all calibration images before any is flagged", "images"
        ),
        field("lot_p", pa.float64(), "p-value of the lot's count of images above the calibration threshold"),
        field("shift_p", pa.float64(), "p-value of the two-sided Mann-Whitney test of lot against calibration"),
        field("defects_at_least", pa.int64(), "smallest number of defective images consistent with the lot", "images"),
        field("basis", pa.string(), "what lot_p is compared with: images or lots"),
        field("state", pa.string(), "hold, watch, ok or not_judged", nullable=False),
        field("reason", pa.string(), "one sentence for a person"),
        MODEL_DIGEST,
        CALIBRATION_DIGEST,
        field("run_id", pa.string(), "scoring run that decided the lot", nullable=False),
        field("decided_at", pa.timestamp("us", "UTC"), "when the lot was decided", nullable=False),
    ]
)
