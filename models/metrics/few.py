"""Whether a ranking of so few pieces can say anything at all."""

from fractions import Fraction
from math import comb

BY_CHANCE = Fraction(1, 20)


def perfect_by_chance(good: int, bad: int) -> Fraction:
    """The chance that a model without skill ranks every bad piece above every good one: 1 / C(good + bad, bad).

    Assumes: exchangeable pieces, no ties.
    Source: Mann & Whitney 1947, Annals of Mathematical Statistics 18:50, the distribution of U without a difference.

    >>> perfect_by_chance(1, 1), perfect_by_chance(3, 3)
    (Fraction(1, 2), Fraction(1, 20))
    """
    return Fraction(1, comb(good + bad, bad))


def says_something(good: int, bad: int) -> bool:
    """Whether a perfect ranking would be a surprise: by chance it comes at most once in twenty times.

    >>> says_something(2, 3), says_something(3, 3)
    (False, True)
    """
    return perfect_by_chance(good, bad) <= BY_CHANCE
