"""Upper bounds of the bad pieces in a lot from which a stratified sample was reviewed.

Strata are drawn from one by one, for example more from lots near the threshold than from others. If none of the reviewed
pieces was bad the bound is exact and short. If some were, the exact bound is wide, and an approximate one stands beside it.
Together the two exact rules keep their level: the bound after a find is never below the bound without one, so a true share
between them is missed only without a find, and a larger one no more often than by the second rule alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import chi2

from models.faults import VerdictError
from models.verdicts.exact_interval import at_most


class Reviewed(NamedTuple):
    """What a review says of the pieces of all strata together, as upper bounds at the level asked for.

    share: bad share of the process behind large strata, exact.  pieces: bad pieces in these very strata, exact, found ones
    included.  approximate: Fay and Feuer's bound of the share; equal to `share` if none was found.
    """

    share: float
    pieces: int
    approximate: float


def review(sizes: ArrayLike, reviewed: ArrayLike, bad: ArrayLike, level: float = 0.95) -> Reviewed:
    """The upper bounds after a simple random sample without replacement was reviewed from every stratum.

    Assumes that reviewers find what is bad. Guarantees (exact ones) that the bound is at least the truth with probability
    `level`, whatever the strata's shares are.

    Args:
        sizes, reviewed, bad: pieces, reviewed pieces and bad ones among them, of every stratum, (H,), integers.

    >>> found = review(sizes=[10**6], reviewed=[300], bad=[0])  # none of 300: at most 1 %
    >>> print(round(found.share, 5), found.pieces)
    0.00994 9934
    """
    total, sampled, found = _checked(sizes, reviewed, bad)
    if found.any():
        approximate = fay_feuer(total, sampled, found, level)
        return Reviewed(some_found(total, sampled, found, level), some_found_pieces(total, sampled, found, level), approximate)
    share = none_found(total, sampled, level)
    return Reviewed(share, none_found_pieces(total, sampled, level), share)


def none_found(sizes: ArrayLike, reviewed: ArrayLike, level: float = 0.95) -> float:
    """The largest sum w_h p_h for which finding none had probability prod (1 - p_h)^n_h >= 1 - level.

    The maximum is at 1 - p_h = min(1, lambda n_h / w_h), w_h = N_h / N (Lagrange; a stratum nobody looked at has p_h = 1).
    Assumes binomial draws, which is safe for finite strata. Guarantees `level` for any shares p_h.
    Source: the confidence set of the likelihood of no event; for one stratum it is Clopper & Pearson 1934.

    >>> print(round(none_found([1000, 1000], [150, 150]), 5), round(none_found([1900, 100], [285, 15]), 5))  # as one sample
    0.00994 0.00994
    >>> print(round(none_found([4000, 1000], [150, 150]), 4))  # reviewed too often where few are
    0.0158
    """
    total, sampled, _ = _checked(sizes, reviewed, np.zeros_like(np.asarray(sizes)))
    weights = total / total.sum()
    looked = sampled > 0
    n, w = sampled[looked].astype(np.float64), weights[looked]
    ratio = np.log(n) - np.log(w)
    inside = np.ones(len(n), bool)  # strata with p_h > 0
    log_good = np.zeros(len(n))
    while inside.any():
        log_lambda = (np.log1p(-level) - (n * ratio)[inside].sum()) / n[inside].sum()
        log_good = np.where(inside, log_lambda + ratio, 0.0)
        if (log_good <= 0).all():
            break
        inside &= log_good < 0
    return float(weights[~looked].sum() + (w * -np.expm1(log_good)).sum())


def none_found_pieces(sizes: ArrayLike, reviewed: ArrayLike, level: float = 0.95) -> int:
    """The most bad pieces D_1 + ... + D_H for which finding none had probability >= 1 - level, exactly, in finite strata.

    Each further bad piece of a stratum multiplies the probability by 1 - n_h / (N_h - D_h), which only falls with D_h; so
    taking the cheapest piece first, of all strata, reaches the maximum. For one stratum it is the hypergeometric bound.

    >>> none_found_pieces([1000], [300]), none_found_pieces([50], [50])
    (8, 0)
    """
    total, sampled, _ = _checked(sizes, reviewed, np.zeros_like(np.asarray(sizes)))
    budget = -np.log1p(-level) * (1 + 1e-12)
    costs = []
    for size, n in zip(total, sampled, strict=True):
        # The first bad piece of a stratum is its cheapest, so no stratum has more than these within the budget.
        most = size if n == 0 else min(size - n, int(budget * size / n) + 1)
        costs.append(-np.log1p(-n / (size - np.arange(most))))
    every = np.sort(np.concatenate(costs))
    return int(np.searchsorted(np.cumsum(every), budget, side="right"))


def some_found(sizes: ArrayLike, reviewed: ArrayLike, bad: ArrayLike, level: float = 0.95) -> float:
    """Sum w_h of Clopper-Pearson bounds, each at level^(1/H), so that all hold at once: exact and wide.

    Assumes binomial draws, independent between strata. Source: Sidak 1967, JASA 62:626; Clopper & Pearson 1934.

    >>> print(round(some_found([900, 100], [90, 10], [1, 0]), 4))
    0.0849
    """
    total, sampled, found = _checked(sizes, reviewed, bad)
    bounds = at_most(found, sampled, level ** (1 / len(total)))
    return float((total * bounds).sum() / total.sum())


def some_found_pieces(sizes: ArrayLike, reviewed: ArrayLike, bad: ArrayLike, level: float = 0.95) -> int:
    """The same in finite strata: the hypergeometric bounds of bad pieces, each at level^(1/H), added up.

    Source: Sidak 1967, JASA 62:626; Buonaccorsi 1987, The American Statistician 41:215 (hypergeometric bounds).

    >>> some_found_pieces([1000], [300], [1]), some_found_pieces([300], [300], [4])
    (13, 4)
    """
    total, sampled, found = _checked(sizes, reviewed, bad)
    each = level ** (1 / len(total))
    rows = zip(total, sampled, found, strict=True)
    return sum(_most_bad(int(size), int(n), int(x), each) for size, n, x in rows)


def fay_feuer(sizes: ArrayLike, reviewed: ArrayLike, bad: ArrayLike, level: float = 0.95) -> float:
    """Fay and Feuer's gamma bound of sum w_h p_h: close in practice, not proven for every p, and marked so in reports.

    (v + W^2) / (2 (y + W)) chi2(level; 2 (y + W)^2 / (v + W^2)) with y = sum w_h x_h / n_h, v = sum w_h^2 x_h / n_h^2,
    W = max w_h / n_h. Assumes Poisson counts. A stratum nobody looked at counts as all bad.
    Source: Fay & Feuer 1997, Statistics in Medicine 16:791, eq. for the upper limit.

    >>> print(round(fay_feuer([900, 100], [90, 10], [1, 0]), 4))
    0.0474
    """
    total, sampled, found = _checked(sizes, reviewed, bad)
    looked = sampled > 0
    unseen = total[~looked].sum() / total.sum()
    if not looked.any():
        return 1.0
    step = total[looked] / total.sum() / sampled[looked]
    mean, spread, widest = (step * found[looked]).sum(), (step**2 * found[looked]).sum(), step.max()
    at, scale = mean + widest, spread + widest**2
    return min(1.0, float(unseen + scale / (2 * at) * chi2.ppf(level, 2 * at**2 / scale)))


def _most_bad(size: int, n: int, found: int, level: float) -> int:
    """The largest D with P(Hypergeometric(size, D, n) <= found) > 1 - level, by bisection: it falls with D."""
    low, high = found, size - (n - found)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _found_at_most(size, n, found, middle) > 1 - level else (low, middle - 1)
    return low


def _found_at_most(size: int, n: int, found: int, bad: int) -> float:
    x = np.arange(max(0, n - (size - bad)), found + 1)

    def choose(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    return float(np.exp(choose(bad, x) + choose(size - bad, n - x) - choose(size, n)).sum())


def _checked(*counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    arrays = [np.asarray(each) for each in counts]
    total, sampled, found = arrays
    same = total.ndim == 1 and len(total) and sampled.shape == found.shape == total.shape
    if not same or any(each.dtype.kind not in "iu" for each in arrays):
        raise VerdictError(f"sizes must be whole numbers, one a stratum, like reviewed and bad; got {counts!r}. Count pieces.")
    if (found < 0).any() or (found > sampled).any() or (sampled > total).any() or (total < 1).any():
        rule = "0 to reviewed, and reviewed at most sizes"
        raise VerdictError(f"bad must be {rule}; got {counts!r}. Count the reviewed pieces of each stratum once.")
    return total.astype(np.int64), sampled.astype(np.int64), found.astype(np.int64)
