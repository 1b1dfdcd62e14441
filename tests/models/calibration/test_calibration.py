"""A group is what a new piece is compared with, and its images give an image its own p-value."""

from fractions import Fraction

import numpy as np
import pytest

from models.calibration.example import calibration
from models.faults import VerdictError


def test_a_group_s_scores_are_sorted_by_row() -> None:
    made = calibration(pieces=60)
    group = made.groups[0]._replace(sets=np.array([[1], [2]]), number=np.arange(60) % 2)
    assert [len(scores) for scores in group.calibrations()] == [30, 30]
    assert all((np.diff(scores) >= 0).all() for scores in group.calibrations())


def test_images_of_a_group_are_those_of_its_pieces() -> None:
    made = calibration(pieces=100, images=3)
    own = made.groups[1]
    assert own.by == ("A",) and made.images_of(own, "").pieces == len(own.piece) == 90
    assert len(made.images_of(made.groups[0], "").scores) == 300
    with pytest.raises(VerdictError):
        made.images_of(own, "no such view")


def test_a_group_needs_pieces_and_lots_at_the_rate() -> None:
    own = calibration(pieces=100).groups[1]
    assert len(own.score) == 90 and own.enough(Fraction(5, 91)) and not own.enough(Fraction(5, 92))
    assert not own._replace(lot=np.arange(90) % 4).enough(Fraction(5, 91))
