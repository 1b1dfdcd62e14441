"""Rates of false calls as exact fractions, and how many good pieces a rate needs.

A float is no rate: 0.29 x 100 is 28.999999999999996, so 99 pieces would allow 28 where 29 are right.
"""

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from models.faults import VerdictError

LONG_NUMBER = re.compile(r"[eE][+-]?\d{4}|.{50}")  # exact fractions of such texts can take all memory
LEAST_RATE = Fraction(1, 10**9)  # a smaller one takes more pieces than there are
MISS = Fraction(1, 20)  # a statement "at 95 %" is wrong for one calibration in twenty


class PiecesNeeded(NamedTuple):
    """Good pieces that a rate needs: on_average over calibrations, and at_95 for 95 % of calibrations."""

    on_average: int
    at_95: int


class SmallestRate(NamedTuple):
    """The smallest rate that n pieces can promise: on_average over calibrations, and at_95 for 95 % of them."""

    on_average: Fraction
    at_95: float


def rate_of(text: str | float) -> Fraction:
    """The rate that a text says, exactly; a float counts as the text that Python prints for it.

    Raises:
        VerdictError: no number between 0 and 1, both excluded, or one below 1e-9.

    >>> rate_of("0.29"), rate_of("1 %"), rate_of(0.001)
    (Fraction(29, 100), Fraction(1, 100), Fraction(1, 1000))
    """
    said = str(text).strip()
    try:
        if LONG_NUMBER.search(said):
            raise ValueError(said)
        rate = Fraction(said[:-1].strip()) / 100 if said.endswith("%") else Fraction(said)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not LEAST_RATE <= rate < 1:
        shown = said if len(said) < 50 else f"{said[:50]}..."
        raise VerdictError(f"rate must be above 0 and below 1; got {shown!r}. Write a share such as 0.01, or 1 %.")
    return rate


def allowed_rank(rate: Fraction, n: int) -> int:
    """j = floor(rate (n + 1)): a piece is flagged if its rank among n calibration pieces is at most j; 0 flags none.

    Assumes: the new piece and the n calibration pieces are exchangeable.
    Guarantees: P(rank <= j) <= rate, marginally, that is on average over calibrations.
    Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, chapter 2.

    >>> allowed_rank(rate_of("0.29"), 99), int(0.29 * 100)
    (29, 28)
    """
    check_pieces(n)
    return math.floor(rate * (n + 1))


def pieces_needed(rate: Fraction) -> PiecesNeeded:
    """The smallest n that can promise a rate, with the largest calibration score as the threshold.

    On average: the smallest n with floor(rate (n + 1)) >= 1. At 95 %: the smallest n with (1 - rate)^n <= 0.05, since the
    false-alarm rate of that threshold is at most Beta(1, n).
    Assumes: exchangeable pieces for the first figure, independent ones from one distribution for the second.
    Source: Wilks 1941, Determination of sample sizes for setting tolerance limits; Vovk 2012, arXiv:1209.2673, prop. 2b.

    >>> pieces_needed(rate_of("1 %"))
    PiecesNeeded(on_average=99, at_95=299)
    """
    # 28 decimal digits, so that the one equality there is, (1 - 0.95)^1 = 0.05, comes out as 1.
    passes = Decimal(rate.denominator - rate.numerator) / Decimal(rate.denominator)
    missed = Decimal(MISS.numerator) / Decimal(MISS.denominator)
    return PiecesNeeded(max(1, math.ceil(1 / rate) - 1), math.ceil(missed.ln() / passes.ln()))


def smallest_rate(n: int) -> SmallestRate:
    """The smallest rate that n pieces can promise: 1 / (n + 1) on average, 1 - 0.05^(1/n) at 95 %.

    Assumes, source: as `pieces_needed`, solved for the rate.

    >>> smallest_rate(200).on_average, round(smallest_rate(200).at_95, 4)
    (Fraction(1, 201), 0.0149)
    """
    check_pieces(n)
    return SmallestRate(Fraction(1, n + 1), -math.expm1(math.log(MISS) / n))


def check_pieces(n: int) -> None:
    """Refuses a calibration without pieces.

    >>> check_pieces(1)  # raises nothing
    """
    if n < 1:
        raise VerdictError(f"calibration pieces must be 1 or more; got {n}. Calibrate with good pieces first.")
