"""How much less a calibration knows because pieces of one lot (or images of one piece) exceed a threshold together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class DesignEffect(NamedTuple):
    """intraclass: correlation of the exceedance within groups.  effect: variance of the share of exceedances, against that
    of as many independent members, 1 or more.  effective: as many independent members say as much.

    All are nan where the data cannot tell: one group only, or all or none exceed. Groups of one member each have effect 1,
    and no correlation (nan).
    """

    intraclass: float
    effect: float
    effective: float


def design_effect(exceeds: ArrayLike, groups: ArrayLike) -> DesignEffect:
    """Design effect of the share of exceedances, from the ANOVA estimate of the intraclass correlation.

    rho = (MSB - MSW) / (MSB + (k0 - 1) MSW), k0 = (N - sum k_g^2 / N) / (G - 1); effect = 1 + (sum k_g^2 / N - 1) max(0, rho).
    The exceedance is taken, not the score: scores may agree much and exceedances of a high threshold little.

    Args:
        exceeds: whether each member exceeds the threshold, (N,), bool.
        groups: the lot (or piece) of each member, (N,).
    Assumes: groups are independent, and members of a group exchangeable.
    Guarantees: an estimate without a guarantee; it needs some 20 groups to be worth reading.
    Source: Donner 1986, Int. Stat. Review 54(1) (ANOVA estimator); Kish 1965, Survey Sampling.

    >>> design_effect([True, True, False, False, False, False], list("aabbcc"))
    DesignEffect(intraclass=1.0, effect=2.0, effective=3.0)
    """
    exceedance = np.asarray(exceeds, np.bool_).astype(np.float64)
    _, code, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    members, count = len(exceedance), len(sizes)
    if count < 2 or exceedance.min() == exceedance.max():
        return DesignEffect(float("nan"), float("nan"), float("nan"))
    if count == members:
        return DesignEffect(float("nan"), 1.0, float(members))
    share = np.bincount(code, exceedance) / sizes
    between = float(np.sum(sizes * (share - exceedance.mean()) ** 2)) / (count - 1)
    within = float(np.sum((exceedance - share[code]) ** 2)) / (members - count)
    squares = float(np.sum(sizes.astype(np.float64) ** 2)) / members
    typical = (members - squares) / (count - 1)
    intraclass = (between - within) / (between + (typical - 1) * within)
    effect = 1 + (squares - 1) * max(0.0, intraclass)
    return DesignEffect(intraclass, effect, members / effect)
