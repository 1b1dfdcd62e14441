"""The operating characteristic of a lot plan: how often a lot passes, by the share of its pieces that are defective.

Type B: pieces are drawn from a process, so a lot's number of defects varies (ISO 2859-1's terms: AQL is the share that shall
pass nearly always, LQ the share that shall nearly never pass).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from models.faults import VerdictError


class LotPlan(NamedTuple):
    """A lot of `judged` pieces is held if at least `limit` of them are flagged; limit judged + 1 holds none.

    detection: share of defective pieces that are flagged.  false_calls: share of good pieces that are flagged.
    """

    judged: int
    limit: int
    detection: float = 1.0
    false_calls: float = 0.0


class Risks(NamedTuple):
    """producer: P(a lot at AQL is held).  consumer: P(a lot at LQ passes)."""

    producer: float
    consumer: float


def flagged_share(plan: LotPlan, defective: ArrayLike) -> NDArray[np.float64]:
    """Probability that a piece is flagged when this share of pieces is defective, same shape as `defective`.

    >>> flagged_share(LotPlan(100, 3, detection=0.9, false_calls=0.01), [0.0, 0.5]).round(4).tolist()
    [0.01, 0.455]
    """
    share = np.asarray(defective, np.float64)
    for field, values in (("defective", share), ("detection", plan.detection), ("false_calls", plan.false_calls)):
        if not np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1)):
            raise VerdictError(f"{field} must be from 0 to 1; got {values!r}. Write a share, not per cent.")
    return share * plan.detection + (1 - share) * plan.false_calls


def passes(plan: LotPlan, defective: ArrayLike) -> NDArray[np.float64]:
    """The OC curve: P(fewer than `limit` pieces are flagged), same shape as `defective`.

    Assumes: pieces are flagged independently, with the plan's detection and false-call shares as they stand (put in the
        95 % bound of the false calls and the lower bound of the detection for figures that are safe).
    Guarantees: exact under these assumptions (a binomial sum).
    Source: Montgomery 2013, Introduction to Statistical Quality Control, section 15.2; ISO 2859-1.

    >>> passes(LotPlan(judged=2, limit=1), [0.0, 0.5]).tolist()
    [1.0, 0.25]
    """
    if plan.judged < 1 or not 1 <= plan.limit <= plan.judged + 1:
        raise VerdictError(
            f"limit must be from 1 to judged + 1, and judged 1 or more; got {plan.limit} and {plan.judged}. Take hold_limit."
        )
    return np.asarray(binom.cdf(plan.limit - 1, plan.judged, flagged_share(plan, defective)), np.float64)


def risks(plan: LotPlan, aql: float, lq: float) -> Risks:
    """Producer's risk at AQL and consumer's risk at LQ, both shares of defective pieces.

    Assumes, guarantees, source: as `passes`.

    >>> found = risks(LotPlan(judged=100, limit=4), aql=0.01, lq=0.08)
    >>> round(found.producer, 4), round(found.consumer, 4)
    (0.0184, 0.0367)
    """
    if not aql < lq:
        raise VerdictError(f"aql must be below lq; got {aql!r} and {lq!r}. AQL is the quality that shall pass.")
    held = binom.sf(plan.limit - 1, plan.judged, flagged_share(plan, aql))
    return Risks(float(held), float(passes(plan, lq)))
