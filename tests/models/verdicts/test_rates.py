"""Rates are fractions of their text, and the pieces that they need are the textbook's."""

from fractions import Fraction

import pytest

from models.faults import VerdictError
from models.verdicts.rates import allowed_rank, pieces_needed, rate_of, smallest_rate


def test_a_rate_that_breaks_floats() -> None:
    assert allowed_rank(rate_of("0.29"), 99) == 29
    assert allowed_rank(rate_of(0.29), 99) == 29 and int(0.29 * 100) == 28
    wrong_in_floats = 0
    for hundredths in range(1, 100):
        for n in range(1, 1200, 7):
            exact = hundredths * (n + 1) // 100
            assert allowed_rank(rate_of(f"0.{hundredths:02d}"), n) == exact
            wrong_in_floats += int(hundredths / 100 * (n + 1)) != exact
    assert wrong_in_floats == 10


@pytest.mark.parametrize(
    ("text", "on_average", "at_95"),
    [("1 %", 99, 299), ("0.001", 999, 2995), ("5%", 19, 59), ("0.1", 9, 29), ("0.95", 1, 1), ("1e-6", 999_999, 2_995_731)],
)
def test_pieces_needed(text: str, on_average: int, at_95: int) -> None:
    assert pieces_needed(rate_of(text)) == (on_average, at_95)


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_pieces_needed_is_the_smallest_number(hundredths: int) -> None:
    rate = Fraction(hundredths, 100)
    found = pieces_needed(rate)
    assert allowed_rank(rate, found.on_average) >= 1
    assert found.on_average == 1 or allowed_rank(rate, found.on_average - 1) == 0
    assert (1 - rate) ** found.at_95 <= Fraction(1, 20) < (1 - rate) ** (found.at_95 - 1)


@pytest.mark.parametrize("n", [1, 19, 59, 99, 200, 299, 4000])
def test_smallest_rate_is_what_the_pieces_are_enough_for(n: int) -> None:
    found = smallest_rate(n)
    assert pieces_needed(found.on_average).on_average == n
    assert (1 - found.at_95) ** n == pytest.approx(0.05)


@pytest.mark.parametrize(
    "text", ["0", "1", "-0.1", "100 %", "half", "", "1/0", "nan", "inf", "1e-40", "1e-99999999", "0." + "1" * 60]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(VerdictError, match="rate must be above 0 and below 1; got"):
        rate_of(text)


def test_no_pieces() -> None:
    with pytest.raises(VerdictError, match="calibration pieces must be 1 or more; got 0"):
        allowed_rank(Fraction(1, 100), 0)
