"""Columns of the map that explains an image's score, in commits and in the table maps."""

import pyarrow as pa

from schemas.field import field

EXPLANATION = [
    field(
        "explanation",
        pa.binary(),
        "how much each cell of the map matters for the score, row-major uint8 of the map's size; value = "
        "explanation_offset + explanation_scale * byte; null unless asked for and the image has a region",
    ),
    field("explanation_scale", pa.float32(), "explanation's value per byte step"),
    field("explanation_offset", pa.float32(), "explanation's value of byte 0"),
    field("explanation_method", pa.string(), "gradient, guided_backprop, grad_cam, guided_grad_cam or cam"),
]
