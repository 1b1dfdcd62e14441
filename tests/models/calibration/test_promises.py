"""What is promised is what the order statistics say, and small calibrations say what they cannot."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta

from models.calibration.calibration import Agreement, Challenge, Detected, Repeats
from models.calibration.example import calibration
from models.calibration.promises import headline, next_promises, promised, promises


def test_promises_at_the_rates() -> None:
    found = {one.rate: one for one in promised(400, [Fraction("0.02")])}
    assert list(found) == [Fraction(text) for text in ("0.1", "0.05", "0.02", "0.01", "0.001")]
    one = found[Fraction("0.01")]
    assert (one.rank, one.on_average) == (4, 4 / 401)
    assert one.at_95 == pytest.approx(beta.ppf(0.95, 4, 397))
    assert one.at_95 < one.any_threshold < 0.03
    assert found[Fraction("0.001")][1:] == (0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("n", "at_95", "average"),
    [
        (1, "10 % at 95 % needs 29 pieces, you have 1", "10 % on average needs 9 pieces, you have 1"),
        (19, "10 % at 95 % needs 29 pieces, you have 19", "2 % on average needs 49 pieces, you have 19"),
        (212, "1 % at 95 % needs 299 pieces, you have 212", "0.2 % on average needs 499 pieces, you have 212"),
        (299, "0.5 % at 95 % needs 598 pieces, you have 299", "0.2 % on average needs 499 pieces, you have 299"),
    ],
)
def test_what_is_missing(n: int, at_95: str, average: str) -> None:
    assert next_promises(n) == [at_95, average]


def test_a_single_piece_says_what_it_cannot() -> None:
    lines = promises(calibration(pieces=1))
    assert "calibrated on 1 good pieces of 1 image from 1 lots" in lines[0]
    assert [
        line.startswith(f"{rate} %: cannot be promised with 1 pieces")
        for rate, line in zip(("10", "5"), lines[2:4], strict=True)
    ]
    assert not any("flagged with at most" in line for line in lines)


def test_the_headline_and_what_does_not_hold() -> None:
    made = calibration(pieces=212)
    assert headline(made).endswith("for cpu-float32: at best 0.469 % on average and 1.4 % at 95 %")
    text = "\n".join(promises(made))
    assert "any other score is not judged" in text and "values seen: line A, B" in text
    assert "line A: 191 pieces of their own, compared with each other from a rate of 2.6 % on" in text
    assert "line A: 1 %" not in text and "line A: 5 %" in text  # 5 / 0.01 - 1 pieces are not there
    unknown = replace(made, keys=made.keys._replace(lot=None), lots=("",))
    text = "\n".join(promises(unknown))
    assert "no value of line is compared with its own pieces" in text
    assert "lots not known" in text and "lot to lot is not covered" in text and "design effect" not in text


def test_bounds_cover_lots_from_20_on() -> None:
    made = calibration(pieces=200)
    assert any("do not cover lots: they are 10, and 20 are needed" in line for line in promises(made))
    group = made.groups[0]
    many = replace(made, groups=(group._replace(lot=np.arange(200) % 20),), lots=tuple(f"{at:02}" for at in range(20)))
    assert not any("do not cover lots" in line for line in promises(many))


def test_a_challenge_is_said_at_its_rates() -> None:
    rows = (Detected("0.05", "", 30, 31), Detected("0.05", "0.5 mm", 29, 29))
    lines = promises(replace(calibration(pieces=60), challenge=Challenge("bad", rows)))
    assert "pieces with defects, at 5 %: 0.5 mm: 29 of 29 flagged: at least 90 % are found, at 95 % confidence" in lines


def test_rates_are_said_however_they_were_written() -> None:
    """Flags take 5 % as well as 0.05."""
    made = replace(calibration(pieces=60), challenge=Challenge("bad", (Detected("5 %", "", 29, 29),)))
    assert "pieces with defects, at 5 %: 29 of 29 flagged: at least 90 % are found, at 95 % confidence" in promises(made)


def test_repeatability_is_said_at_its_rates() -> None:
    rows = (Agreement("5 %", 28, 30, 0.97, 4), Agreement("0.01", 30, 30, 1.0, 0))
    lines = promises(replace(calibration(pieces=60), repeats=Repeats("again", 2, 3, 1, 5, rows)))
    found = [line.removeprefix("pieces imaged again, ") for line in lines if line.startswith("pieces imaged again, ")]
    assert found == [
        "at 5 %: 28 of 30 (77.9 to 99.2 %) get one verdict in all of their 2 to 3 imagings, two imagings agree in 97 %; "
        "4 are flagged at least once",
        "at 1 %: 30 of 30 (88.4 to 100 %) get one verdict in all of their 2 to 3 imagings, two imagings agree in 100 %; "
        "none is ever flagged, so this says nothing of pieces near the threshold",
        "do not count: 1 with fewer than two complete imagings",
        "do not count: 5 imagings with missing, unreadable or surplus images",
    ]
    lines = promises(replace(calibration(pieces=60), repeats=Repeats("again", 2, 2, 0, 0, ())))
    assert "pieces imaged again, no rate can be promised, so there are no verdicts to compare" in lines
