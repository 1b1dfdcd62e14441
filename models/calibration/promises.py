"""What a calibration promises, in words: of a rate, of any threshold, and what is missing for the next better promise."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration, Group, Repeats
from models.verdicts.band import LOTS_COVERED, band, bound_of_count, covers_lots, fixed_rate_bound
from models.verdicts.challenge import Detection
from models.verdicts.design_effect import DesignEffect, design_effect
from models.verdicts.exact_interval import at_least, two_sided
from models.verdicts.lot_basis import SAYS, basis_of
from models.verdicts.rates import allowed_rank, pieces_needed, rate_of, smallest_rate

SHOWN_RATES = tuple(Fraction(text) for text in ("0.1", "0.05", "0.01", "0.001"))
LADDER = tuple(
    Fraction(step, 10**power) for power in range(1, 7) for step in (5, 2, 1) if (step, power) not in ((5, 1), (2, 1))
)
"""10 %, 5 %, 2 %, 1 %, 0.5 %, ...: the promises that people ask for."""


class Promise(NamedTuple):
    """What n pieces promise at a preset rate. rank: j; 0 if the rate cannot be promised, and the bounds are then 1.

    on_average: share of new good pieces that are flagged, at most, on average over calibrations.
    at_95: the same for 95 % of calibrations.  any_threshold: of a threshold of the same rank that was chosen after looking.
    """

    rate: Fraction
    rank: int
    on_average: float
    at_95: float
    any_threshold: float


def promised(n: int, rates: Iterable[Fraction] = ()) -> list[Promise]:
    """The promise at 10, 5, 1 and 0.1 % and at the rates that are given, the largest rate first.

    Assumes, guarantees, source: as `rates.allowed_rank`, `band.fixed_rate_bound` and `band.band`.

    >>> [(str(one.rate), one.rank) for one in promised(212, [Fraction("0.02")])]
    [('1/10', 21), ('1/20', 10), ('1/50', 4), ('1/100', 2), ('1/1000', 0)]
    """
    asked = sorted({*SHOWN_RATES, *rates}, reverse=True)
    bounds = band(n, asked)
    found = []
    for rate in asked:
        rank = allowed_rank(rate, n)
        if 1 <= rank <= n:
            any_threshold = bound_of_count(bounds, rank - 1)
            found.append(Promise(rate, rank, rank / (n + 1), fixed_rate_bound(rank, n), any_threshold))
        else:
            found.append(Promise(rate, 0, 1.0, 1.0, 1.0))
    return found


def per_cent(share: float | Fraction) -> str:
    """A share as people write it, three digits.

    >>> per_cent(Fraction(1, 1000)), per_cent(0.01494)
    ('0.1 %', '1.49 %')
    """
    return f"{100 * float(share):.3g} %"


def next_promises(n: int) -> list[str]:
    """What is missing for the next better promise, at 95 % and on average.

    >>> next_promises(212)
    ['1 % at 95 % needs 299 pieces, you have 212', '0.2 % on average needs 499 pieces, you have 212']
    """
    at_95 = next((rate for rate in LADDER if pieces_needed(rate).at_95 > n), None)
    average = next((rate for rate in LADDER if pieces_needed(rate).on_average > n), None)
    lines = []
    if at_95 is not None:
        lines.append(f"{per_cent(at_95)} at 95 % needs {pieces_needed(at_95).at_95:,} pieces, you have {n:,}")
    if average is not None:
        lines.append(f"{per_cent(average)} on average needs {pieces_needed(average).on_average:,} pieces, you have {n:,}")
    return lines


def lots_effect(group: Group, row: int = 0) -> DesignEffect:
    """The design effect of lots at the threshold of 5 %, or of the largest score where 5 % cannot be promised.

    >>> from models.calibration.example import calibration
    >>> lots_effect(calibration(pieces=200).groups[0]).effect >= 1
    True
    """
    mine = group.number == row
    n = int(mine.sum())
    top = np.arange(n) >= n - max(1, allowed_rank(Fraction(1, 20), n))  # scores rise
    return design_effect(top, group.lot[mine])


def headline(calibration: Calibration) -> str:
    """The calibration in one line.

    >>> from models.calibration.example import calibration
    >>> headline(calibration(pieces=60))
    'calibrated on 60 good pieces of 1 image from 10 lots, for cpu-float32: at best 1.64 % on average and 4.87 % at 95 %'
    """
    group = calibration.groups[0]
    kinds = [(len(group.scores(row)), _consists(calibration, group, row)) for row in _rows(group)]
    pieces = f"{kinds[0][0]:,} good pieces of {kinds[0][1]}"
    if len(kinds) > 1:
        sizes = [int(group.sets[row].sum()) for row in _rows(group)]
        pieces = f"{len(group.score):,} good pieces of {min(sizes)} to {max(sizes)} images, {len(kinds)} kinds apart"
    lots = f" from {len(np.unique(group.lot)):,} lots" if calibration.knows_lots() else ", lots not known"
    best = smallest_rate(max(n for n, _ in kinds))
    promise = f"at best {per_cent(best.on_average)} on average and {per_cent(best.at_95)} at 95 %"
    return f"calibrated on {pieces}{lots}, for {calibration.mode.label}: {promise}"


def promises(calibration: Calibration, rates: Iterable[Fraction] = ()) -> list[str]:
    """What it promises and what it does not, sentence by sentence, for the card and the command.

    >>> from models.calibration.example import calibration
    >>> print(promises(calibration(pieces=60))[2][12:])
    10 %: a new good piece is flagged with at most 9.84 % on average, 16.7 % at 95 %; 19.7 % at any threshold like it
    """
    asked = list(rates)
    mode, grid = calibration.mode, calibration.grid
    lines = [headline(calibration)]
    for group in calibration.groups:
        for row in _rows(group):
            named = _name(calibration, group, row)
            n = len(group.scores(row))
            least = Fraction(5, n + 1) if group.by else Fraction(0)
            if group.by:
                lines.append(
                    f"{named}{n:,} pieces of their own, compared with each other from a rate of {per_cent(least)} on; "
                    "at smaller rates with all pieces"
                )
            lines += [f"{named}{line}" for line in _of_pieces(n, asked, least)]
            lines += [f"{named}{line}" for line in ([] if group.by else next_promises(n))]
            if calibration.knows_lots():
                lines += [f"{named}{line}" for line in _of_lots(group, row)]
    if not calibration.knows_lots():
        lines.append("lots are not known, so variation from lot to lot is not covered")
        if calibration.keys.by:
            lines.append(f"no value of {', '.join(calibration.keys.by)} is compared with its own pieces, since that takes lots")
    lines.append(
        f"holds for scores made on {mode.label} in batches of {mode.batch_size}, of images at {grid.height} x {grid.width} "
        f"pixels ({grid.resize}), scoring version {mode.scoring_version}; any other score is not judged"
    )
    if calibration.keys.view is not None:
        views = ", ".join(calibration.selection.scales.views.tolist())
        lines.append(f"views {views} are put on one scale by {calibration.selection.basis}")
    if calibration.keys.by:
        seen = "; ".join(f"{key} {', '.join(found)}" for key, found in zip(calibration.keys.by, calibration.seen, strict=True))
        lines.append(f"values seen: {seen}; a piece with any other is not judged")
    if calibration.map_scale is not None:
        low, high = calibration.map_scale
        lines.append(f"heat maps are coloured from {low:.3g} to {high:.3g}, the 50 and 99.9 % points of good images' maps")
    if calibration.challenge is not None:
        lines += [f"pieces with defects, {line}" for line in challenge_lines(calibration)]
    if calibration.repeats is not None:
        lines += [f"pieces imaged again, {line}" for line in repeat_lines(calibration.repeats)]
    return lines


def challenge_lines(calibration: Calibration) -> Iterator[str]:
    """What was found of pieces with defects, at each rate.

    >>> from dataclasses import replace
    >>> from models.calibration.calibration import Challenge, Detected
    >>> from models.calibration.example import calibration
    >>> made = replace(calibration(pieces=60), challenge=Challenge("bad", (Detected("0.05", "", 29, 29),)))
    >>> list(challenge_lines(made))
    ['at 5 %: 29 of 29 flagged: at least 90 % are found, at 95 % confidence']
    """
    for one in calibration.challenge.detected if calibration.challenge is not None else ():
        found = Detection(one.size_class, one.flagged, one.pieces, float(at_least(one.flagged, one.pieces)))
        yield f"at {per_cent(rate_of(one.rate))}: {found.sentence()}"


def repeat_lines(repeats: Repeats) -> Iterator[str]:
    """How far verdicts on pieces that were imaged repeatedly agree, at each rate, and what does not count.

    >>> from models.calibration.calibration import Agreement
    >>> print(next(repeat_lines(Repeats("again", 3, 3, 0, 0, (Agreement("0.05", 29, 30, 0.978, 4),))))[:76])
    at 5 %: 29 of 30 (82.8 to 99.9 %) get one verdict in all of their 3 imagings
    """
    many = str(repeats.most) if repeats.fewest == repeats.most else f"{repeats.fewest} to {repeats.most}"
    for one in repeats.agreements:
        rate, share = per_cent(rate_of(one.rate)), two_sided(one.agreeing, one.pieces)
        ever = "none is ever flagged, so this says nothing of pieces near the threshold"
        if one.flagged:
            ever = f"{one.flagged:,} are flagged at least once"
        agree = f"{share} get one verdict in all of their {many} imagings, two imagings agree in {per_cent(one.pairs)}"
        yield f"at {rate}: {agree}; {ever}"
    if not repeats.agreements:
        yield "no rate can be promised, so there are no verdicts to compare"
    if repeats.once:
        yield f"do not count: {repeats.once:,} with fewer than two complete imagings"
    if repeats.incomplete:
        yield f"do not count: {repeats.incomplete:,} imagings with missing, unreadable or surplus images"


def _of_pieces(n: int, rates: list[Fraction], least: Fraction) -> Iterator[str]:
    """least: smaller rates are left out, since other pieces are compared at them."""
    best = smallest_rate(n)
    if not least:
        at_best = f"{per_cent(best.on_average)} on average, {per_cent(best.at_95)} at 95 %"
        yield f"the smallest p-value of a piece is 1 / {n + 1:,}: {at_best}"
    for promise in promised(n, rates):
        if promise.rate < least:
            continue
        if not promise.rank:
            needed = pieces_needed(promise.rate)
            yield (
                f"{per_cent(promise.rate)}: cannot be promised with {n:,} pieces; on average it needs {needed.on_average:,}, "
                f"at 95 % {needed.at_95:,}"
            )
            continue
        bound = f"{per_cent(promise.any_threshold)} at any threshold like it"
        yield (
            f"{per_cent(promise.rate)}: a new good piece is flagged with at most {per_cent(promise.on_average)} on average, "
            f"{per_cent(promise.at_95)} at 95 %; {bound}"
        )


def _of_lots(group: Group, row: int) -> Iterator[str]:
    lots = len(np.unique(group.lot[group.number == row]))
    found = lots_effect(group, row)
    if np.isfinite(found.effect):
        yield (
            f"design effect of {lots:,} lots at 5 %: {found.effect:.2g}, so the pieces say as much as "
            f"{found.effective:,.0f} that have each a lot of their own"
        )
    if not covers_lots(lots):
        basis = basis_of(lots)
        said = SAYS[basis] if basis == "pieces" else f"a lot is {SAYS[basis]}"
        yield (
            f"the bounds at 95 % and at any threshold do not cover lots: they are {lots:,}, and {LOTS_COVERED} are needed; "
            f"{said}"
        )


def _rows(group: Group) -> list[int]:
    """The rows of `sets` that have pieces."""
    return [row for row in range(len(group.sets)) if len(group.scores(row))]


def _consists(calibration: Calibration, group: Group, row: int) -> str:
    counts: NDArray[np.int64] = group.sets[row]
    images = f"{counts.sum():,} image{'s' if counts.sum() > 1 else ''}"
    return images if len(counts) == 1 else f"{images} of {int((counts > 0).sum()):,} views"


def _name(calibration: Calibration, group: Group, row: int) -> str:
    """What the lines of a group begin with; nothing if there is only one."""
    of = " ".join(f"{key} {value}" for key, value in zip(calibration.keys.by, group.by, strict=False))
    rows = _rows(group)
    counts = f"pieces of {_consists(calibration, group, row)}" if len(rows) > 1 else ""
    name = ", ".join(filter(None, [of, counts]))
    if not name:
        return "all pieces: " if len(calibration.groups) > 1 else ""
    return f"{name}: "
