"""Pieces with defects are judged as new pieces are, and one that cannot be judged was not found."""

import numpy as np
import pytest

from models.calibration.calibration import Detected
from models.calibration.challenged import challenged
from models.calibration.example import calibration
from models.faults import VerdictError
from models.verdicts.pieces import Images


def images(*rows: tuple[str, float | None]) -> Images:
    piece, score = zip(*rows, strict=True)
    readable = np.array([one is not None for one in score])
    return Images(np.array(piece), np.full(len(rows), ""), np.array([one or 0.0 for one in score], np.float32), readable)


def test_size_classes_and_rates() -> None:
    made = calibration(pieces=60, images=2)
    bad = images(("a", 99), ("a", -9), ("b", 99), ("b", None), ("c", -9), ("c", None), ("d", None), ("d", None))
    found = challenged(made, "bad", bad, ["large"] * 4 + ["small"] * 4, ["0.1", "5 %", "0.01"])
    # b is flagged by the one image that is there; c and d cannot be judged.
    expected = [("", 2, 4), ("large", 2, 2), ("small", 0, 2)]
    assert found.detected == tuple(Detected(rate, *row) for rate in ("0.1", "5 %") for row in expected)
    assert found.uri == "bad"


def test_a_piece_has_one_size() -> None:
    with pytest.raises(VerdictError, match="one size class; got two for 'a'"):
        challenged(calibration(pieces=60, images=2), "bad", images(("a", 1), ("a", 2)), ["1", "2"], ["0.1"])
