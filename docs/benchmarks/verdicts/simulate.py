"""Puts models/verdicts to the test on generated calibrations: does each guarantee hold, and do the rules that lack one fail?

    PYTHONPATH=. python docs/benchmarks/verdicts/simulate.py --runs 1000 --csv docs/benchmarks/verdicts/simulated.csv

Every row is one cell: what was measured, the nominal figure, the standard error over calibrations, and whether it holds:
measured <= nominal + slack x error (3.5, or 2 where issue and design say so; >= nominal - slack x error for a coverage). --runs
is the number of calibrations of a piece cell; bands take 10 times as many and lot tests 100 times. Ends with 1 if a
guarantee does not hold, or a rule that shall be shown failing does not fail.
"""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, binom, norm

from models.verdicts.band import band
from models.verdicts.image_p import image_calibration, image_ranks, images_flagged
from models.verdicts.lot_basis import LotCounts, lots_model_p, lots_p, spread_between
from models.verdicts.lot_test import defects_at_least, hold_limit, lot_p, shift_p
from models.verdicts.ranks import flagged, ranks, sorted_calibration
from models.verdicts.rates import allowed_rank
from models.verdicts.within_lot import flagged_together

Meant = Literal["holds", "fails", "is shown"]  # a guarantee; a rule without one, beside it; a figure without a nominal one
RATES = tuple(Fraction(text) for text in ("0.01", "0.05", "0.1"))
LEVELS = (0.05, 0.01, 0.001)
NEW = 20  # new pieces for each calibration


class Row(NamedTuple):
    family: str
    cell: str
    measured: float
    nominal: float
    error: float
    slack: float = 3.5
    at_least: bool = False  # a coverage, which must not be smaller
    meant: Meant = "holds"

    def holds(self) -> bool:
        sign = -1 if self.at_least else 1
        return sign * (self.measured - self.nominal) <= self.slack * self.error + 1e-12

    def margin(self) -> float:
        """Standard errors beyond nominal, on the wrong side if positive."""
        beyond = (self.measured - self.nominal) * (-1 if self.at_least else 1)
        return beyond / self.error if self.error else (0.0 if beyond <= 0 else float("inf"))


def share_row(family: str, cell: str, share: NDArray[np.float64], nominal: float, **how: object) -> Row:
    """A row of the mean over calibrations; the error of a rare event is at least that of one event."""
    error = max(float(share.std()) / len(share) ** 0.5, 1 / (NEW * len(share)))
    return Row(family, cell, float(share.mean()), nominal, error, **how)  # type: ignore[arg-type]


def drawn(
    rng: np.random.Generator, pieces: int, images: int, icc: float, tied: bool, contaminated: float = 0.0
) -> NDArray[np.float32]:
    """Scores of pieces' images, (pieces, images), standard normal with this intraclass correlation; ties on a grid of 0.5."""
    own, other = rng.standard_normal((pieces, 1), np.float32), rng.standard_normal((pieces, images), np.float32)
    scores = np.float32(icc**0.5) * own + np.float32((1 - icc) ** 0.5) * other
    scores[rng.random(pieces) < contaminated] += np.float32(3)
    return np.round(scores * 2) / 2 if tied else scores


def pieces(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n, images, icc, tied, bad in product((19, 99, 400, 4000), (1, 2, 4, 8), (0.0, 0.5, 0.95), (False, True), (0.0, 0.05)):
        if images == 1 and icc:
            continue
        share = np.empty((len(RATES), runs))
        for run in range(runs):
            calibration = sorted_calibration(drawn(rng, n, images, icc, tied, bad).max(axis=1))
            rank = ranks(drawn(rng, NEW, images, icc, tied).max(axis=1), calibration)
            share[:, run] = [flagged(rank, rate, n).mean() for rate in RATES]
        for rate, found in zip(RATES, share, strict=True):
            cell = f"n {n}, {images} images, icc {icc}, ties {tied}, contaminated {bad:.0%}, rate {float(rate):.0%}"
            yield share_row("piece rate", cell, found, float(rate))
    for n, text in ((99, "0.29"), (399, "0.57"), (99, "0.07")):
        rank = rng.integers(1, n + 2, (runs, 100))  # without ties a new piece has each rank equally often
        exact = allowed_rank(Fraction(text), n)
        yield share_row("piece rate", f"n {n}, rate {text}: {exact} of {n + 1}", (rank <= exact).mean(axis=1), float(text))
        if int(float(text) * (n + 1)) < exact:
            cell, in_floats = f"n {n}, rate {text}: {exact - 1} of {n + 1}", (rank <= exact - 1).mean(axis=1)
            yield share_row("floats lose a rank", cell, in_floats, float(text), at_least=True, meant="fails")


def images(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n, largest, icc, tied in product((19, 99, 400), (1, 4, 8), (0.0, 0.5, 0.95), (False, True)):
        if largest == 1 and icc:
            continue
        share = np.empty((len(RATES), runs))
        for run in range(runs):
            counts = rng.integers(1, largest + 1, n + NEW)
            scores = drawn(rng, n + NEW, largest, icc, tied)[np.arange(largest) < counts[:, None]]
            piece = np.repeat(np.arange(n + NEW), counts)
            found = image_calibration(scores[piece < n], piece[piece < n])
            rank = image_ranks(scores[piece >= n], found)
            for at, rate in enumerate(RATES):
                per_piece = np.bincount(piece[piece >= n] - n, images_flagged(rank, rate, found)) / counts[n:]
                share[at, run] = per_piece.mean()
        for rate, of_run in zip(RATES, share, strict=True):
            cell = f"n {n}, 1 to {largest} images, icc {icc}, ties {tied}, rate {float(rate):.0%}"
            yield share_row("image p, mean share of a piece", cell, of_run, float(rate))


def image_ranks_fail(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """The count of false calls in 200 new pieces of 5 images, by image ranks and by piece scores, at 5 %."""
    n, new, k, icc = 200, 200, 5, 0.85
    for family, one, meant in (("image ranks", False, "fails"), ("piece scores", True, "holds")):
        per = 1 if one else k
        rank = allowed_rank(Fraction("0.05"), n * per)
        low, high = betabinom.ppf((0.025, 0.975), new * per, rank, n * per + 1 - rank)
        count = np.empty(runs)
        for run in range(runs):
            scores = drawn(rng, n + new, k, icc, False)
            values = scores.max(axis=1, keepdims=True) if one else scores
            count[run] = (ranks(values[n:].ravel(), sorted_calibration(values[:n].ravel())) <= rank).sum()
        inside = ((count >= low) & (count <= high)).astype(float)
        yield share_row(f"{family}: mean", "n 200, 5 images, icc 0.85, rate 5%", count / (new * per), 0.05)
        yield share_row(
            f"{family}: 95 % interval", "n 200, 5 images, icc 0.85, rate 5%", inside, 0.95, at_least=True, meant=meant
        )


def bands(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n in (19, 59, 100, 400, 1000, 4000, 100_000):
        found = band(n, (Fraction("0.001"), *RATES))
        # Order statistics at the nodes: sums of exponential gaps, divided by the sum of all n + 1.
        gaps = rng.gamma(np.diff(found.nodes, prepend=0, append=n + 1), size=(10 * runs, len(found.nodes) + 1))
        points = np.cumsum(gaps, axis=1)[:, :-1] / gaps.sum(axis=1, keepdims=True)
        held = (points <= found.bounds).all(axis=1).astype(float)
        yield share_row("band, all thresholds", f"n {n}, {len(found.nodes)} nodes", held, 0.95, slack=2, at_least=True)


def limits(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n, m, rate in product((200, 400, 1000, 4000), (100, 1000, 5000), RATES):
        j = allowed_rank(rate, n)
        limit = hold_limit(m, j, n)
        held = binom.sf(limit - 1, m, rng.beta(j, n + 1 - j, 100 * runs))
        cell = f"n {n}, m {m}, rate {float(rate):.0%}: c95 {limit}"
        yield share_row(
            "calibrations that hold at most 5 % of good lots", cell, (held <= 0.05).astype(float), 0.95, at_least=True
        )
    marginal = next(c for c in range(1000) if lot_p(c, 1000, 4, 400) <= 0.05)
    held = binom.sf(marginal - 1, 1000, rng.beta(4, 397, 100 * runs))
    yield share_row(
        "the same by lot_p <= 0.05", f"n 400, m 1000, rate 1%: c {marginal}", (held <= 0.05).astype(float), 0.95,
        at_least=True, meant="fails",
    )  # fmt: skip


def lot_ps(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n, m, rate in product((99, 400, 4000), (100, 1000), RATES):
        j = allowed_rank(rate, n)
        c = rng.binomial(m, rng.beta(j, n + 1 - j, 100 * runs))
        p = np.array([lot_p(count, m, j, n) for count in range(c.max() + 1)])[c]
        for level in LEVELS:
            yield share_row("lot_p", f"n {n}, m {m}, rate {float(rate):.0%}, level {level}", (p <= level).astype(float), level)
    for m, tied in product((5, 40, 1000), (False, True)):
        one = lambda size, tied=tied: drawn(rng, size, 1, 0, tied)[:, 0]  # noqa: E731
        p = np.array([shift_p(one(m), sorted_calibration(one(400))) for _ in range(runs)])
        yield share_row("shift_p", f"n 400, m {m}, ties {tied}, level 0.05", (p <= 0.05).astype(float), 0.05)


def defects(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for (j, n), m, bad in product(((1, 99), (4, 400), (20, 400), (40, 4000)), (100, 1000), (0, 1, 5, 20)):
        good = rng.binomial(m - bad, rng.beta(j, n + 1 - j, 100 * runs))
        claimed = np.array([defects_at_least(c, m, j, n) for c in range(good.max() + bad + 1)])
        over = (claimed[good + bad] > bad).astype(float)
        yield share_row("defects_at_least exceeds the truth", f"n {n}, j {j}, m {m}, {bad} defects", over, 0.05, slack=2)


def lots_drawn(rng: np.random.Generator, lots: int, threshold: float, judged: int | None = None) -> LotCounts:
    """Lots of 50 to 1,000 pieces whose means differ by 0.2 standard deviations of a piece."""
    sizes = rng.integers(50, 1001, lots) if judged is None else np.full(lots, judged)
    return LotCounts(rng.binomial(sizes, norm.sf(threshold - 0.2 * rng.standard_normal(lots))), sizes)


def bases(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for rate, size in product((0.01, 0.05), (None, 50, 1000)):
        threshold = float(norm.isf(rate))
        for lots in (5, 8, 18, 19, 40):
            by_rank = lots >= 19
            held = np.empty((5 * runs, NEW))
            for run in range(5 * runs):
                known, new = lots_drawn(rng, lots, threshold), lots_drawn(rng, NEW, threshold, size)
                spread = spread_between(lots_drawn(rng, 10, threshold))
                held[run] = (lots_p(new, known, spread) if by_rank else lots_model_p(new, known)) <= 0.05
            share, cell = held.mean(axis=1), f"{lots} known lots, rate {rate:.0%}, new lots of {size or '50 to 1000'}"
            if size is None:
                family = "basis lots" if by_rank else "basis lots_model, at most 7 %"
                yield share_row(family, cell, share, 0.05 if by_rank else 0.07)
            else:
                family = "basis lots" if by_rank else "basis lots_model"
                yield share_row(f"{family}, new lots of another size", cell, share, 0.05, meant="is shown")
    for lots in (4, 20):
        held = np.empty((runs, NEW))
        for run in range(runs):
            of = np.repeat(np.arange(lots), 400 // lots)
            calibration = np.sort(0.2 * rng.standard_normal(lots)[of] + rng.standard_normal(400))
            new = lots_drawn(rng, NEW, float(calibration[-20]))
            p = [lot_p(c, m, 20, 400) for c, m in zip(new.flagged.tolist(), new.judged.tolist(), strict=True)]
            held[run] = np.array(p) <= 0.05
        yield share_row(
            "basis pieces where lots differ", f"400 pieces of {lots} lots, rate 5%", held.mean(axis=1), 0.05, meant="fails"
        )


def false_discoveries(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    for n, m, bad, tied in product((400, 4000), (100, 1000), (0, 1, 5, 20), (False, True)):
        false = np.empty(runs)
        for run in range(runs):
            lot = drawn(rng, m, 1, 0, tied)[:, 0]
            lot[:bad] += np.float32(3)
            found = flagged_together(ranks(lot, sorted_calibration(drawn(rng, n, 1, 0, tied)[:, 0])), RATES[2], n)
            false[run] = found[bad:].sum() / max(1, found.sum())
        cell = f"n {n}, m {m}, {bad} defects, ties {tied}, q 10%"
        yield share_row("false-discovery proportion", cell, false, 0.1, slack=2)


FAMILIES: tuple[Callable[[np.random.Generator, int], Iterator[Row]], ...] = (
    pieces, images, image_ranks_fail, bands, limits, lot_ps, defects, bases, false_discoveries,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="calibrations of a piece cell")
    parser.add_argument("--csv", help="file for all cells; without it they are printed")
    parser.add_argument("--only", help="one family's function, such as bands")
    settings = parser.parse_args()
    rows: list[Row] = []
    with open(settings.csv or os.devnull, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["family", "cell", "measured", "nominal", "standard_error", "holds"])
        for seed, family in enumerate(FAMILIES):
            if settings.only in (None, family.__name__):
                for row in family(np.random.default_rng(seed), settings.runs):
                    rows.append(row)
                    figures = f"{row.measured:.5f}", row.nominal, f"{row.error:.5f}", said(row)
                    table.writerow([row.family, row.cell, *figures])
                    stream.flush()
                    if not settings.csv:
                        print(f"| {row.family} | {row.cell} | {' | '.join(map(str, figures))} |", flush=True)
    print("\n| guarantee | cells | hold | nearest to its limit, or beyond | measured | nominal | error |\n" + "|---" * 7 + "|")
    for name in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == name]
        worst = max(own, key=Row.margin)
        note = ", shown failing" * (worst.meant == "fails")
        print(
            f"| {name}{note} | {len(own)} | {sum(map(Row.holds, own))} | {worst.cell} "
            f"| {worst.measured:.4f} | {worst.nominal} | {worst.error:.4f} |"
        )
    return int(any(row.meant == ("fails" if row.holds() else "holds") for row in rows))


def said(row: Row) -> str:
    return {"holds": "", "fails": "shown failing: ", "is shown": "no guarantee: "}[row.meant] + ("yes" if row.holds() else "no")


if __name__ == "__main__":
    sys.exit(main())
