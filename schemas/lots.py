"""The `lots` table: the verdict on a lot, one row per lot and revision. It is written once a model is calibrated.

A lot is the images of one day with one value of the key `lot`, scored by one version of the model.
"""

import pyarrow as pa

from schemas.columns import CALIBRATION_DIGEST, DATE, MODEL, MODEL_DIGEST, PERIOD
from schemas.field import field

VERSION = 3
PARTITION_BY = ["model", "period"]
SORT_BY = "date, lot, revision"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        field("lot", pa.string(), "the lot", nullable=False),
        MODEL,
        DATE,
        PERIOD,
        field("revision", pa.int32(), "0 for the first decision; each later one of the lot adds 1", nullable=False),
        field("expected", pa.int64(), "images that a manifest announced; always null so far: no manifest is read", "images"),
        field("planned", pa.int64(), "images planned", "images"),
        field("scored", pa.int64(), "images with a score", "images"),
        field("unreadable", pa.int64(), "images that could not be scored", "images"),
        field("pieces", pa.int64(), "complete pieces that were judged", "pieces"),
        field("flagged", pa.int64(), "pieces that the rate flags, incomplete ones too", "pieces"),
        field("hold_limit", pa.int64(), "flagged complete pieces from which on it is held; null if lots decide", "pieces"),
        field(
            "min_flaggable", pa.int64(), "fewest pieces that must exceed all calibration pieces to stand out together", "pieces"
        ),
        field("lot_p", pa.float64(), "p-value of the lot's count of flagged pieces, by basis"),
        field("shift_p", pa.float64(), "p-value of the two-sided Mann-Whitney test of lot against calibration"),
        field("defects_at_least", pa.int64(), "smallest number of pieces unlike good ones that fits the lot", "pieces"),
        field("basis", pa.string(), "what lot_p compares with: lots (by rank), lots_model (normal lot effects) or pieces"),
        field("rate", pa.string(), "share of good pieces that may be flagged, as it was decided; null when not calibrated"),
        field("state", pa.string(), "hold, watch, ok or not_judged", nullable=False),
        field("reason", pa.string(), "one sentence for a person"),
        MODEL_DIGEST,
        CALIBRATION_DIGEST,
        field(
            "entry",
            pa.int32(),
            "number of the decision in force among the entries of the ledger, as in decisions",
            nullable=False,
        ),
        field("decided_at", pa.timestamp("us", "UTC"), "when the lot was decided", nullable=False),
    ]
)
