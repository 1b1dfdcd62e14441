"""Names that rows have before anything is judged; it imports none of the statistics."""

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
