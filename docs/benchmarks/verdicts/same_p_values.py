"""Compares the p-values of pieces with those of the PyPI package `nonconform`: they must be equal to the last bit.

    python3.12 -m venv FOLDER/venv && FOLDER/venv/bin/pip install nonconform==2.0.0
    PYTHONPATH=. FOLDER/venv/bin/python docs/benchmarks/verdicts/same_p_values.py

`nonconform` needs Python 3.12 and brings numpy and scipy, which is all that models/verdicts/pieces.py imports, so both run in
one interpreter. Its `Empirical(tie_break="classical")` is the empirical conformal p-value without smoothing.

Each of the 100 calibrations has pieces of 1 to 6 images, which share half of their variance; scores are rounded to so coarse
a grid that most are ties. A piece's score on their side is Python's own maximum of its images. Ends with 1 if a p-value
differs, or if a calibration has no ties.
"""

import sys
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.verdicts.pieces import Images, calibrations, piece_scores, piece_sets, verdicts
from models.verdicts.view_scales import ViewScales

CALIBRATIONS = 100
NEW = 60
LARGEST = 6  # images of a piece
RATE = Fraction("0.1")  # of the verdicts; p-values do not depend on it
SCALES = ViewScales(np.array([""]), np.zeros(1), np.ones(1))  # one view: raw scores
Theirs = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


class Case(NamedTuple):
    """Scores of n good and of NEW other pieces, k images each: (n, k) and (NEW, k), float32."""

    good: NDArray[np.float32]
    new: NDArray[np.float32]


class Compared(NamedTuple):
    """Of one calibration. values: p-values compared.  different: not equal as floats, or not rank / (n + 1) as a fraction.
    tied: new pieces that score as a good piece does.  repeated: good pieces that score as another one does."""

    values: int
    different: int
    tied: int
    repeated: int


def case(seed: int) -> Case:
    """Pieces of 1, 2 ... 6, 1, 2 ... images for seed 0, 1, 2 ...; a few new pieces lie above or below all good ones."""
    rng, images = np.random.default_rng(seed), seed % LARGEST + 1
    n = int(rng.integers(20, 500))
    step = rng.choice([0.25, 0.3, 0.5, 1.0])  # 0.3 is no binary fraction

    def drawn(pieces: int) -> NDArray[np.float32]:
        own, other = rng.normal(size=(pieces, 1)), rng.normal(size=(pieces, images))
        return (np.round((own + other) / 2**0.5 / step) * step).astype(np.float32)

    good, new = drawn(n), drawn(NEW)
    new[:3], new[3:6] = good.max() + 1, good.min() - 1
    return Case(good, new)


def as_images(scores: NDArray[np.float32]) -> Images:
    """(P, k) as the product takes them, in an order that mixes the pieces."""
    pieces, images = scores.shape
    names = np.array([f"{piece:04}" for piece in range(pieces)])
    order = np.random.default_rng(pieces).permutation(pieces * images)
    piece = np.repeat(names, images)[order]
    return Images(piece, np.full(len(piece), ""), scores.ravel()[order], np.ones(len(piece), np.bool_))


def compare(one: Case, theirs: Theirs) -> Compared:
    """Both sides' p-values of one calibration's new pieces. theirs: of scores (N,) and calibration (n,), float64."""
    good = as_images(one.good)
    sets = piece_sets(good, SCALES).sets
    found = verdicts(piece_scores(as_images(one.new), SCALES, sets), calibrations(piece_scores(good, SCALES, sets), sets), RATE)
    largest = [np.array([max(images) for images in side.tolist()]) for side in one]
    p = theirs(largest[1], largest[0])
    n = len(one.good)
    exact = [Fraction(value).limit_denominator(n + 1) for value in p.tolist()]
    fractions = [value == Fraction(rank, n + 1) for value, rank in zip(exact, found.rank.tolist(), strict=True)]
    same = (found.p == p) & fractions
    tied = np.isin(largest[1], largest[0])
    return Compared(NEW, int((~same).sum()), int(tied.sum()), n - len(np.unique(largest[0])))


def main() -> int:
    from nonconform import Empirical  # the package, which only this script needs

    estimation = Empirical(tie_break="classical")
    found = [compare(case(seed), lambda new, good: estimation.compute_p_values(new, good)) for seed in range(CALIBRATIONS)]
    values, different, tied, _ = (sum(column) for column in zip(*found, strict=True))
    untied = sum(one.repeated == 0 for one in found)
    print(
        f"{len(found)} calibrations, {values:,} p-values compared ({tied:,} of new pieces tied with good ones), "
        f"{different} differences; {untied} calibrations without ties"
    )
    return int(different > 0 or untied > 0)


if __name__ == "__main__":
    sys.exit(main())
