"""The `decisions` table: what people decided that verdicts depend on, one row per setting that changed; only ever added to."""

import pyarrow as pa

from schemas.columns import MODEL, MODEL_DIGEST
from schemas.field import field

VERSION = 1
PARTITION_BY = ["model"]
SORT_BY = "entry, setting"
ROW_GROUP_ROWS = 122_880

THRESHOLD = "threshold of "
"""Begins the setting that a review budget fixes for a night; the night follows."""

SCHEMA = pa.schema(
    [
        MODEL,
        MODEL_DIGEST,
        field("entry", pa.int32(), "number of the decision among the entries of the model's ledger", nullable=False),
        field("setting", pa.string(), "what changed: calibration (its digest), rate, ...", nullable=False),
        field("old", pa.string(), "its value before; null if there was none"),
        field("new", pa.string(), "its value from then on; null if there is none"),
        field("decided_by", pa.string(), "who gave the command", nullable=False),
        field("decided_at", pa.timestamp("us", "UTC"), "when", nullable=False),
    ]
)
