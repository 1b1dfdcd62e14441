"""The verdict on a lot, from the ranks of its judged pieces: hold, watch or ok, and why, in one sentence.

Pieces with different images, or of different calibration groups, are compared with different calibrations. Such a lot consists
of several kinds, each is tested by itself, and the lot is held if one of them is: at the level 0.05 / kinds each (Bonferroni),
so that the lot keeps the level of one.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration, Group
from models.faults import VerdictError
from models.verdicts.lot_basis import (
    SAYS,
    Basis,
    LotCounts,
    LotSpread,
    basis_of,
    lot_counts,
    lots_model_p,
    lots_p,
    spread_between,
)
from models.verdicts.lot_test import LotRanks, defects_at_least, hold_limit, lot_p, shift_p_of_ranks
from models.verdicts.rates import MISS, allowed_rank
from models.verdicts.within_lot import min_flaggable, pieces_enough

State = Literal["hold", "watch", "ok", "not_judged"]

SHIFTED_P = 0.01
SHIFTED_BY = 0.1
"""A lot is watched if its scores lie elsewhere than the calibration's: by the Mann-Whitney test, and so far that a piece of the
lot beats a good one in less than 40 or more than 60 of 100 pairs. Without that floor every large lot would be watched, since
lots always differ a little."""


class Kind(NamedTuple):
    """What pieces of one kind are compared with.

    scores: of n calibration pieces, rising, (n,), float32.  rank: j, up to which a piece is flagged.
    threshold: score above which pieces count for `lots` and `lots_model`, fixed on the selection set; None for `pieces`.
    known: the known-good lots of the calibration; None for `pieces`.  spread: for `lots` only.
    """

    scores: NDArray[np.float32]
    rank: int
    basis: Basis
    threshold: float | None = None
    known: LotCounts | None = None
    spread: LotSpread | None = None


class RankCounts(NamedTuple):
    """The complete pieces of a lot of one kind, by rank.

    rank: 1 + calibration pieces that score at least as high.  tied: those that score the same.  pieces: how many; each (E,).
    above: pieces above the kind's threshold; 0 without one.
    """

    rank: NDArray[np.int64]
    tied: NDArray[np.int64]
    pieces: NDArray[np.int64]
    above: int = 0


class LotDecision(NamedTuple):
    """judged: complete pieces that were judged.  hold_limit: flagged pieces from which on it is held; None where the decision
    is not by a count of pieces.  The rest as columns of the table `lots`."""

    judged: int
    state: State
    reason: str
    basis: Basis | None = None
    hold_limit: int | None = None
    min_flaggable: int | None = None
    lot_p: float | None = None
    shift_p: float | None = None
    defects_at_least: int | None = None


def kind_of(calibration: Calibration, group: Group, row: int, rate: Fraction) -> Kind | None:
    """What pieces of one row of the group's sets are compared with; None if its pieces are too few for the rate.

    >>> from models.calibration.example import calibration
    >>> made = calibration(pieces=60)
    >>> kind = kind_of(made, made.groups[0], 0, Fraction("0.1"))
    >>> kind.rank, kind.basis, len(kind.known.judged)
    (6, 'lots_model', 10)
    """
    scores = group.scores(row)
    rank = allowed_rank(rate, len(scores)) if len(scores) else 0
    if not rank:
        return None
    lot = group.lot[group.number == row]
    basis = basis_of(len(np.unique(lot))) if calibration.keys.lot is not None else "pieces"
    selected = calibration.selection.score
    at = allowed_rank(rate, len(selected)) if len(selected) else 0
    if basis == "pieces" or not at:
        return Kind(scores, rank, "pieces")
    threshold = float(np.sort(selected)[-at])
    known = _above(scores, lot, threshold)
    return Kind(scores, rank, basis, threshold, known, spread_between(_above(selected, calibration.selection.lot, threshold)))


def q_by_rank(counts: RankCounts, n: int) -> NDArray[np.float64]:
    """The q-value of the pieces at each rank, (E,), which `within_lot.q_values` gives each of them.

    Args:
        counts: of a lot.

    >>> q_by_rank(RankCounts(np.array([1, 50]), np.zeros(2, int), np.array([2, 1])), n=99).round(3).tolist()
    [0.015, 0.5]
    """
    order = np.argsort(-counts.rank, kind="stable")  # from the least anomalous: each takes the least of those after it
    at_most = np.cumsum(counts.pieces[order][::-1])[::-1]  # pieces of this rank or a smaller one
    adjusted = np.minimum.accumulate(counts.rank[order] / (n + 1) * (at_most[0] / at_most))  # rounded as scipy rounds it
    found = np.empty(len(order))
    found[order] = np.minimum(adjusted, 1.0)
    return found


def decide_lot(
    lot: Sequence[tuple[Kind, RankCounts]], q: Fraction = Fraction(1, 10), most_needed: int | None = None
) -> LotDecision:
    """The verdict on a lot.

    Args:
        lot: its kinds that have judged pieces.
        q: share of false ones among the pieces that stand out together, for `min_flaggable`.
        most_needed: a calibration for which `min_flaggable` is more is too small for the lot; None asks for nothing.
    Assumes, guarantees: by basis, as `lot_test` and `lot_basis` say of each; a good lot is held with probability 0.05 at most,
        with `pieces` for 95 % of calibrations and if lots do not differ.

    >>> kind = Kind(np.arange(400, dtype=np.float32), rank=4, basis="pieces")
    >>> found = decide_lot([(kind, RankCounts(np.array([1, 200]), np.array([0, 1]), np.array([30, 970])))])
    >>> found.state, found.hold_limit, found.defects_at_least
    ('hold', 28, 9)
    """
    if not lot:
        raise VerdictError("a lot must have a judged piece; got none. A lot without one is not_judged.")
    level = MISS / len(lot)
    tests = [_test(kind, counts, level) for kind, counts in lot]
    judged = sum(test.judged for test in tests)
    flagged = sum(int(counts.pieces[counts.rank <= kind.rank].sum()) for kind, counts in lot)
    needed = [min_flaggable(test.judged, q, len(kind.scores)) for test, (kind, _) in zip(tests, lot, strict=True)]
    basis = max((test.basis for test in tests), key=["lots", "lots_model", "pieces"].index)
    found = LotDecision(
        judged,
        "ok",
        "",
        basis,
        tests[0].limit if len(tests) == 1 else None,
        max(needed),
        min(1.0, min(test.lot_p for test in tests) * len(tests)),
        min(1.0, min(test.shift_p for test in tests) * len(tests)),
        max(test.defects for test in tests),
    )
    said = [f"{flagged:,} of {judged:,} pieces flagged"]
    if most_needed is not None and max(needed) > most_needed:
        (kind, _), test = max(zip(lot, tests, strict=True), key=lambda both: both[1].judged / (len(both[0][0].scores) + 1))
        enough = pieces_enough(test.judged, q, most_needed)
        what = f"calibration too small: {len(kind.scores):,} pieces, and a lot of {test.judged:,} needs {enough:,}"
        return found._replace(state="not_judged", reason="; ".join([*said, what]))
    held, shifted = any(test.held for test in tests), any(test.shifted for test in tests)
    if found.hold_limit is not None:
        said.append(f"a lot is held from {found.hold_limit:,} on")
    elif len(tests) == 1:
        said.append(f"a lot is held at a p of {float(level):.3g}, and this one has {found.lot_p:.3g}")
    else:
        said.append(f"its {len(tests)} kinds of pieces are tested apart, smallest p {found.lot_p:.3g}")
    if held and found.defects_at_least:
        said.append(f"at least {found.defects_at_least:,} are unlike good ones")
    if shifted:
        said.append("its scores as a whole lie elsewhere than those of good pieces")
    if basis == "pieces":
        said.append("that lots differ is not covered")
    elif held:
        said.append(SAYS[basis])
    return found._replace(state="hold" if held else "watch" if shifted else "ok", reason="; ".join(said))


class _Test(NamedTuple):
    judged: int
    basis: Basis
    limit: int | None
    lot_p: float
    shift_p: float
    defects: int
    held: bool
    shifted: bool


def _test(kind: Kind, counts: RankCounts, level: Fraction) -> _Test:
    n, judged = len(kind.scores), int(counts.pieces.sum())
    flagged = int(counts.pieces[counts.rank <= kind.rank].sum())
    limit, p = None, lot_p(flagged, judged, kind.rank, n)
    held = False
    if kind.known is None:
        limit = _limit(judged, kind.rank, n, level)
        held = flagged >= limit
    else:
        mine = lot_counts(counts.above, judged)
        found = lots_model_p(mine, kind.known)
        if kind.basis == "lots":
            assert kind.spread is not None
            found = lots_p(mine, kind.known, kind.spread)
        p = float(found[0])
        held = p <= level
    shift = shift_p_of_ranks(LotRanks(n + 1 - counts.rank, counts.tied, counts.pieces), kind.scores)
    wins = float(np.sum(counts.pieces * (n + 1 - counts.rank + counts.tied / 2))) / (judged * n)
    shifted = shift <= SHIFTED_P and abs(wins - 0.5) >= SHIFTED_BY
    return _Test(judged, kind.basis, limit, p, shift, defects_at_least(flagged, judged, kind.rank, n), held, shifted)


def _above(scores: NDArray[np.float32], lot: NDArray[np.int64], threshold: float) -> LotCounts:
    lots, code = np.unique(lot, return_inverse=True)
    return lot_counts(np.bincount(code[scores > threshold], minlength=len(lots)), np.bincount(code, minlength=len(lots)))


@functools.lru_cache(maxsize=65_536)
def _limit(judged: int, rank: int, n: int, level: Fraction) -> int:
    return hold_limit(judged, rank, n, level)
