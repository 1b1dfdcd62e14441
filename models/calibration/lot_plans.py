"""What a calibration means for lots: how few bad pieces can stand out, from which count a lot is held, how often it passes."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from models.calibration.promises import per_cent
from models.verdicts.lot_test import expected_false_holds, hold_limit
from models.verdicts.oc_curve import LotPlan, passes
from models.verdicts.rates import allowed_rank
from models.verdicts.within_lot import min_flaggable, pieces_enough

LOT_SIZES = (100, 1000, 5000)
DEFECTIVE = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
FALSE_SHARE = Fraction(1, 10)  # q of Benjamini and Hochberg


class Plan(NamedTuple):
    """The lot test of lots of one size at one rate.

    limit: the lot is held from so many flagged pieces on.  false_holds: of a good lot, at most, for 95 % of calibrations.
    passing: the OC curve at the shares of `DEFECTIVE`.
    """

    rate: Fraction
    judged: int
    limit: int
    false_holds: float
    passing: tuple[float, ...]


def plans(
    n: int, rates: Iterable[Fraction], detection: Mapping[Fraction, float] | None = None, sizes: Iterable[int] = LOT_SIZES
) -> list[Plan]:
    """The plan of every lot size at every rate that n pieces can promise.

    Args:
        detection: share of defective pieces that are flagged at each rate; without one all are, the best case.
    Assumes: as `lot_test.hold_limit` and `oc_curve.passes`; good pieces are flagged at the rate's average.

    >>> (found,) = plans(400, [Fraction("0.01")], sizes=[1000])
    >>> found.limit, [round(share, 2) for share in found.passing]
    (28, [1.0, 1.0, 0.95, 0.34, 0.0, 0.0])
    """
    found = []
    for rate in rates:
        rank = allowed_rank(rate, n)
        for judged in sizes if 1 <= rank <= n else ():
            limit = hold_limit(judged, rank, n)
            plan = LotPlan(judged, limit, 1.0 if detection is None else detection[rate], rank / (n + 1))
            holds = expected_false_holds([judged], rank, n).at_most
            found.append(Plan(rate, judged, limit, holds, tuple(passes(plan, DEFECTIVE).tolist())))
    return found


def table(
    n: int, rates: Iterable[Fraction], detection: Mapping[Fraction, float] | None = None, sizes: Iterable[int] = LOT_SIZES
) -> list[str]:
    """The plans as lines of text; none if no rate can be promised.

    detection: share of pieces with defects that a challenge says are flagged at least, at each rate; None without one.

    >>> print(*table(400, [Fraction("0.01")], sizes=[1000])[1:], sep=chr(10))
    rate     lot of  held from  good held       0 %  0.5 %    1 %    2 %    5 %   10 %
    1 %       1,000         28     3.48 %       100    100     95     34      0      0
    """
    found = plans(n, rates, detection, sizes)
    if not found:
        return []
    assumed = "if every defective piece is flagged; --challenge measures how many are"
    if detection is not None:
        shares = ", ".join(f"{per_cent(detection[rate])} at {per_cent(rate)}" for rate in {plan.rate: 0 for plan in found})
        assumed = f"if as many of the defective pieces are flagged as the challenge says at least: {shares}"
    heads = "".join(f"{per_cent(share):>7}" for share in DEFECTIVE)
    lines = [
        f"of 100 lots pass, by the share of their pieces that are defective ({assumed}):",
        f"{'rate':<8}{'lot of':>7}{'held from':>11}{'good held':>11}   {heads}",
    ]
    for plan in found:
        curve = "".join(f"{100 * share:>7.0f}" for share in plan.passing)
        limit = f"{plan.limit:,}" if plan.limit <= plan.judged else "never"
        held = per_cent(plan.false_holds)
        lines.append(f"{per_cent(plan.rate):<8}{plan.judged:>7,}{limit:>11}{held:>11}   {curve}")
    return lines


def standing_out(n: int, sizes: Iterable[int] = LOT_SIZES, q: Fraction = FALSE_SHARE) -> list[str]:
    """How few pieces of a lot can stand out together when a share q of them may be false.

    >>> print(standing_out(399, sizes=[1000])[0][:70])
    in a lot of 1,000 at least 25 pieces must stand out before any is flag
    """
    lines = []
    for judged in sizes:
        least = min_flaggable(judged, q, n)
        line = (
            f"in a lot of {judged:,} at least {least:,} pieces must stand out before any is flagged within the lot "
            f"(one in {1 / float(q):.0f} of them false)"
        )
        lines.append(line + (f"; for 5 it takes {pieces_enough(judged, q, 5):,} good pieces" if least > 5 else ""))
    return lines
