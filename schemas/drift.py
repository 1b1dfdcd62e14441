"""The `drift` table: whether a night of a calibrated model looks like the reference nights, one row per model, group and night.

Rows are only ever added. A night is charted once, with the images that are there then; images that come later change no row.
"""

import pyarrow as pa

from schemas.columns import CALIBRATION_DIGEST, DATE, MODEL, MODEL_DIGEST
from schemas.field import field

VERSION = 1
PARTITION_BY = ["model"]
SORT_BY = "date, drift_group"
ROW_GROUP_ROWS = 122_880

CHANNELS = {
    "brightness": ("mean of log mean grey value", "log"),
    "contrast_ratio": ("mean of log of the grey values' standard deviation by their mean", "log"),
    "sharpness_ratio": ("mean of log of the Laplacian's standard deviation by that of the grey values", "log"),
    "size": ("mean of log of the stored image's pixels", "log"),
    "score_mean": ("mean score, in distances of the reference's 50 % from its 90 % point", "scale"),
    "score_count": ("share of images with scores above 99.75 % of the reference's", "asin sqrt"),
    "embedding_mean": ("mean length of the embedding, in distances of the reference's 50 % from its 90 % point", "scale"),
    "embedding_count": ("share of images with embeddings longer than 99.75 % of the reference's", "asin sqrt"),
}
"""What the chart compares, each relative to the image's own view, in the order of models/verdicts/night_channels.py."""


def _of_channel(name: str) -> list[pa.Field]:
    meaning, unit = CHANNELS[name]
    return [
        field(f"{name}_value", pa.float64(), f"{meaning}; null for reference nights", unit),
        field(f"{name}_distance", pa.float64(), "how far the value is from the mean of the reference nights", "sd"),
        field(f"{name}_limit", pa.float64(), "distance from which the night is over", "sd"),
    ]


SCHEMA = pa.schema(
    [
        MODEL,
        MODEL_DIGEST,
        CALIBRATION_DIGEST,
        field("drift_group", pa.string(), "images that are charted together: `all`, or values of key columns", nullable=False),
        DATE,
        field("state", pa.string(), "reference, ok, watch or suspended: then its verdicts are not_judged", nullable=False),
        field("source", pa.string(), "what has changed: light, focus, fixture, mix, model; null unless watch or suspended"),
        field("since", pa.string(), "first of the nights without an ok between that end with this one; null if ok"),
        field("reason", pa.string(), "one sentence for a person", nullable=False),
        field("images", pa.int64(), "images of the night that were compared", "images", nullable=False),
        field("alarmed", pa.string(), "channels over their limits, with commas; null without any"),
        *(column for name in CHANNELS for column in _of_channel(name)),
        field("carried", pa.string(), "sums of the CUSUM after the night, JSON: the next night goes on from them"),
        field("decided_at", pa.timestamp("us", "UTC"), "when the night was charted", nullable=False),
    ]
)
