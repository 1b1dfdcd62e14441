"""Ranks of another mode are compared on the scale of the earlier calibration."""

import numpy as np
import pytest

from models.calibration.example import calibration
from models.calibration.other_mode import rank_shift
from models.faults import VerdictError
from models.verdicts.ranks import ranks


def test_a_shift_is_counted_in_pieces() -> None:
    made = calibration(pieces=60)
    scales, pieces = made.selection.scales, made.groups[0].scores()
    raw = np.array([image.score for image in made.stored])
    moved = raw + 0.4
    found = rank_shift(made, made.stored, moved.tolist())
    before, after = (ranks((one - scales.q50[0]) / (scales.q90 - scales.q50)[0], pieces) for one in (raw, moved))
    assert found == (60, int(np.abs(before - after).max()), float(np.median(np.abs(before - after))), 60)
    assert found.largest > 0


def test_nothing_to_compare_is_refused() -> None:
    made = calibration(pieces=60)
    with pytest.raises(VerdictError, match="got 0 for 0 images"):
        rank_shift(made, [], [])
