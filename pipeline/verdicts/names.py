"""Names that rows have before anything is judged; it imports none of the statistics."""

import pyarrow as pa
import pyarrow.compute as pc

FILLED = (
    "calibration_digest",
    "calibration_group",
    "piece",
    "view",
    "rank",
    "n_calibration",
    "p_value",
    "piece_p",
    "q_value",
    "verdict",
    "reason",
)
"""Columns of `scores` that verdicts fill."""

NOT_JUDGED = "not_judged"
NOT_CALIBRATED = "not calibrated"
UNREADABLE = "not readable"


def grid(height: pa.ChunkedArray, width: pa.ChunkedArray) -> pa.ChunkedArray:
    """The sizes of maps as the column `grid` has them; null where one is.

    >>> grid(pa.chunked_array([[32, None]], pa.int16()), pa.chunked_array([[48, 48]], pa.int16())).to_pylist()
    ['32 x 48', None]
    """
    return pc.binary_join_element_wise(height.cast(pa.string()), width.cast(pa.string()), " x ")
