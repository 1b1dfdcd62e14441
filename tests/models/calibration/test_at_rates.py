"""Labelled pieces and images are counted as the calibration judges them."""

from fractions import Fraction

import numpy as np
import pytest

from models.calibration.at_rates import at_rates
from models.calibration.example import calibration
from models.faults import VerdictError
from models.verdicts.exact_interval import two_sided
from models.verdicts.pieces import Images


def labelled(pieces: int, images: int, above: float) -> tuple[Images, np.ndarray, list[str]]:
    """Half of the pieces are bad; one image of each bad piece scores `above`, every other -9."""
    number = np.repeat(np.arange(pieces), images)
    score = np.full(len(number), -9.0, np.float32)
    bad = (np.arange(len(number)) % images == 0) & (number % 2 == 0)
    score[bad] = above
    names = np.array([f"{at:03}" for at in number])
    return Images(names, np.full(len(number), ""), score, np.ones(len(number), bool)), bad, names.tolist()


def test_pieces_and_images_at_a_rate() -> None:
    made = calibration(pieces=60, images=2)
    (row,) = at_rates(made, *labelled(20, 2, above=99), rates=[Fraction("0.05")])
    assert row.pieces is not None and row.needs == 0 and row.not_judged == (0, 0)
    assert row.pieces.false_calls == two_sided(0, 10) and row.pieces.escapes == two_sided(0, 10)
    assert row.image_false_calls is not None and row.image_escapes is not None
    assert row.image_false_calls[:2] == (0, 30) and row.image_escapes[:2] == (0, 10)
    (row,) = at_rates(made, *labelled(20, 2, above=-9), rates=[Fraction("0.05")])
    assert row.pieces is not None and row.pieces.escapes == two_sided(10, 10)


def test_pieces_that_cannot_be_judged_are_counted_apart() -> None:
    made = calibration(pieces=60, images=2)
    (row,) = at_rates(made, *labelled(20, 1, above=-9), rates=[Fraction("0.05")])  # one of two images
    assert row.not_judged == (10, 10) and row.pieces is not None and row.pieces.escapes.total == 0
    (row,) = at_rates(made, *labelled(20, 1, above=99), rates=[Fraction("0.05")])  # flagged by what is there
    assert row.not_judged == (10, 0) and row.pieces is not None and row.pieces.escapes[:2] == (0, 10)


def test_what_cannot_be_promised_has_no_figure() -> None:
    rows = at_rates(calibration(pieces=60), *labelled(20, 1, above=99))
    assert [row.needs for row in rows] == [999, 99, 0, 0] and rows[0].pieces is rows[0].image_escapes is None


def test_an_unknown_view_is_refused() -> None:
    images, bad, names = labelled(4, 1, above=0)
    with pytest.raises(VerdictError, match=r"views must be those of the calibration, \[''\]; got \['top'\]"):
        at_rates(calibration(pieces=60), images._replace(view=np.full(4, "top")), bad, names)
