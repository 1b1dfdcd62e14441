"""p-values for few pieces: K models, each fitted without one fold of the pieces, so that every piece calibrates.

Only for detectors whose fit is a closed form: the guarantee needs a fit that treats its pieces alike, in any order. All K
models are kept, since a new piece needs the score of each.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError


def folds(pieces: Sequence[object], count: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold of every image, (N,) int64: whole pieces at random, folds of the same number of pieces or one more.

    >>> folds(["a", "a", "b", "b", "c"], count=3).tolist()
    [1, 1, 2, 2, 0]
    """
    names, code = np.unique(np.asarray([str(piece) for piece in pieces]), return_inverse=True)
    if not 2 <= count <= len(names):
        rule = f"2 to the number of pieces, {len(names)}"
        raise VerdictError(f"count must be {rule}; got {count!r}. 5 to 10 folds are usual.")
    fold = np.empty(len(names), np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % count
    return fold[code]


def ranks(held_out: ArrayLike, fold: ArrayLike, new: ArrayLike) -> NDArray[np.int64]:
    """1 + the number of pieces whose held-out score is at least the new piece's score by the same model.

    A piece is flagged by `rank <= rate (n + 1)`, see `most_rank`; p = rank / (n + 1) is for looking.
    Assumes pieces exchangeable with the new one and a fit that is symmetric in its pieces. Guarantees what `guaranteed` says,
    on average over sets of pieces.

    Args:
        held_out: of every piece, by the model that was fitted without its fold, (n,).
        fold: of every piece, (n,), integers from 0 to K - 1.
        new: scores of m new pieces by each model, (m, K).
    Returns:
        (m,) int64 from 1 to n + 1; ties count against the piece's flag.
    Source: Vovk 2015, Annals of Mathematics and Artificial Intelligence 74:9, eq. 5; Barber, Candes, Ramdas & Tibshirani
    2021, Annals of Statistics 49:486, CV+.

    >>> ranks(held_out=[1.0, 2.0, 3.0, 4.0], fold=[0, 0, 1, 1], new=[[2.5, 3.0], [9.0, 9.0]])
    array([3, 1])
    """
    scores, of, fresh = np.asarray(held_out, np.float64), np.asarray(fold), np.asarray(new, np.float64)
    if scores.ndim != 1 or of.shape != scores.shape or of.dtype.kind not in "iu" or fresh.ndim != 2:
        shapes = (scores.shape, of.shape, fresh.shape)
        raise VerdictError(f"held_out, fold, new must be (n,), (n,) integers, (m, K); got {shapes!r}. Score by all K models.")
    count = fresh.shape[1]
    if set(of.tolist()) != set(range(count)):
        rule = f"0 to K - 1 = {count - 1}, each at least once"
        raise VerdictError(f"fold must be {rule}; got {sorted(set(of.tolist()))!r}. Give the fold of every piece.")
    if not (np.isfinite(scores).all() and np.isfinite(fresh).all()):
        raise VerdictError("held_out and new must be finite; got nan or infinity. Leave out pieces that have no score.")
    rank = np.ones(len(fresh), np.int64)
    for k in range(count):
        own = np.sort(scores[of == k])
        rank += len(own) - np.searchsorted(own, fresh[:, k], side="left")
    return rank


def most_rank(rate: float, pieces: int) -> int:
    """The largest rank that is flagged at this rate: floor(rate (n + 1)) of the rate's decimal text; 0 flags nothing.

    >>> most_rank(0.29, pieces=99), most_rank(0.05, pieces=18)
    (29, 0)
    """
    return int(_fraction(rate) * (pieces + 1) // 1)


def guaranteed(rate: float, sizes: Sequence[int]) -> float:
    """The most that a new good piece's chance of being flagged at this rate can be, at most 1.

    2 rate + min{2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)}. The second term is proven for folds of one size only, and is
    left out for others. The first, 2 (K - 1) / (n + K), holds for any sizes: the mean of the folds' own p-values, weighted
    by their sizes + 1, is (K + pieces above) / (n + K), and twice a mean of p-values is a p-value.

    Args:
        rate: above 0 and below 1.  sizes: pieces of each fold, (K,).
    Source: Barber, Candes, Ramdas & Tibshirani 2021, Annals of Statistics 49:486, theorem 4; Vovk & Wang 2020, Biometrika
    107:791, for folds of any sizes.

    >>> print(round(guaranteed(0.05, [4] * 5), 3), round(guaranteed(0.05, [1] * 20), 3))
    0.225 0.1
    """
    count, pieces = len(sizes), sum(sizes)
    if count < 2 or min(sizes) < 1:
        raise VerdictError(f"sizes must be of at least two folds that are not empty; got {list(sizes)!r}. Make fewer folds.")
    excess = Fraction(2 * (count - 1), pieces + count)
    if len(set(sizes)) == 1:
        excess = min(excess, (1 - Fraction(count, pieces)) / (count + 1))
    return float(min(Fraction(1), 2 * _fraction(rate) + excess))


def sentence(rate: float, sizes: Sequence[int]) -> str:
    """What a user may count on, in words.

    >>> print(sentence(0.05, [4] * 5))
    20 good pieces in 5 folds: typically at most 5 % of good pieces are flagged, guaranteed at most 22.5 %
    >>> print(sentence(0.05, [3] * 5))
    15 good pieces in 5 folds: 5 % is impossible, since the smallest p is 1/16; 19 pieces are needed
    """
    pieces, wanted = sum(sizes), _fraction(rate)
    promise = guaranteed(rate, sizes)
    start = f"{pieces} good pieces in {len(sizes)} folds:"
    if most_rank(rate, pieces) == 0:
        needed = -(-1 // wanted) - 1
        return f"{start} {100 * rate:g} % is impossible, since the smallest p is 1/{pieces + 1}; {needed} pieces are needed"
    share = f"{100 * rate:g} % of good pieces are flagged"
    return f"{start} typically at most {share}, guaranteed at most {np.ceil(1000 * promise - 1e-9) / 10:g} %"


def _fraction(rate: float) -> Fraction:
    if not 0 < rate < 1:
        raise VerdictError(f"rate must be above 0 and below 1; got {rate!r}. 0.05 flags 5 % of good pieces.")
    return Fraction(str(rate))
