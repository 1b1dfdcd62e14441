"""The nightly drift chart: does tonight look like the fixed reference nights, and if not, what has changed?

It is a chart and no stream of p-values: a night is compared with whole nights, so that lots may differ as they always did.
One night over the limit is `watch`. Two in a row, or a CUSUM over its limit, are `suspended`: the calibration's promises do not
hold for such a night, and its verdicts read not_judged. About 3 % of unchanged nights are over; what is promised over years is
a run length (models/verdicts/cusum.py), never silence.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from models.faults import VerdictError
from models.verdicts import cusum
from models.verdicts.cusum import Cusum
from models.verdicts.night_channels import CHANNELS, WITHOUT_EMBEDDING, Channel

FALSE_ALARMS = Fraction(3, 100)  # of unchanged nights; a fraction, since ranks are integers
LEAST_NIGHTS = 20
RANK_NIGHTS = 33  # from here on 1 / (L + 1) <= 3 %
ENOUGH_FOR_COUNTS = 200  # images a night: half an image above the tail is expected
TIED = 0.9  # channels with this share of the largest distance are named beside it


@dataclass(frozen=True)
class Reference:
    """The fixed reference nights: `night_channels` of each, (L, C) float64, L >= 20, C = 8, or 6 without embeddings.

    images: how many a night has, tonight or usually, whichever is less; None for at least 200.

    >>> print(round(Reference(np.random.default_rng(0).normal(size=(20, 8))).limit(), 2))
    3.38
    """

    nights: NDArray[np.float64]
    images: int | None = None

    def __post_init__(self) -> None:
        shape, widths = self.nights.shape, (WITHOUT_EMBEDDING, len(CHANNELS))
        if len(shape) != 2 or shape[0] < LEAST_NIGHTS or shape[1] not in widths or not np.isfinite(self.nights).all():
            rule = f"finite, at least {LEAST_NIGHTS} nights of {widths[0]} or {widths[1]} channels"
            raise VerdictError(f"nights must be {rule}; got {shape!r}. Wait for more nights before charting.")

    def channels(self) -> tuple[Channel, ...]:
        return CHANNELS[: self.nights.shape[1]]

    def floors(self) -> NDArray[np.float64]:
        return np.array([channel.floor for channel in self.channels()])

    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of each channel between nights, (C,), and at least a tenth of the floor: a channel that never
        moved is over as soon as it moves by its floor.

        Among fewer than 200 images a rare one is too rare: most reference nights have none, and one would be over. Then a
        share's deviation is at least 1 / (2 sqrt(images)), that of a count which is not rare.
        """
        least = self.floors() / 10
        if self.images is not None and self.images < ENOUGH_FOR_COUNTS:
            counted = np.array([channel.unit == "share" for channel in self.channels()])
            least = np.where(counted, np.maximum(least, 0.5 / np.sqrt(self.images)), least)
        return np.maximum(self.nights.std(axis=0, ddof=1), least)

    def limits(self) -> NDArray[np.float64]:
        """|y_c - mean_c| / s_c from which a channel is over, (C,): the limit, and beyond the floor. For under 33 nights."""
        return np.maximum(self.limit(), self.floors() / self.spread())

    def limit(self) -> float:
        """t_{L-1}(0.03 / (2 C)) sqrt(1 + 1/L), of |y_c - mean_c| / s_c."""
        count, channels = self.nights.shape
        return float(t.isf(float(FALSE_ALARMS / (2 * channels)), count - 1) * np.sqrt(1 + 1 / count))


class Charted(NamedTuple):
    """A night on the chart. distance: (y_c - mean_c) / s_c, (C,), signed.  over: channels over the limit and their floor, (C,)
    bool.  rank: of the night's largest distance among all nights, 1 is the largest; None below 33 nights."""

    distance: NDArray[np.float64]
    over: NDArray[np.bool_]
    rank: int | None


class Carried(NamedTuple):
    """What one night leaves to the next. It follows from the reference and the nights since, so it can be made again."""

    over: bool
    cusum: Cusum


class Judged(NamedTuple):
    """A night's state, `ok`, `watch` or `suspended`; sources: what has changed, the largest first, empty if ok; sentence."""

    state: str
    sources: tuple[str, ...]
    sentence: str
    charted: Charted


def chart(reference: Reference, night: ArrayLike) -> Charted:
    """One night against the reference.

    With fewer than 33 nights a channel is over if |y_c - mean_c| / s_c > t_{L-1}(0.03 / (2 C)) sqrt(1 + 1/L): assumes that a
    channel's nights are independent and normal, with any dependence between channels (Bonferroni). With 33 or more, a channel
    is over if its distance from the mean of all L + 1 nights, by their standard deviation, is above the floor(0.03 (L + 1))-th
    largest of the reference nights' largest distances: assumes exchangeable nights only. Both also need the effect floor.
    Guarantees that an unchanged night has a channel over with probability at most 3 %, on average over references, if views'
    centres were known beforehand. With centres from the reference itself, and counts that are not normal, it was 2.3 to 3.9 %
    (docs/benchmarks/verdicts/drift.md).

    Args:
        night: `night_channels` of the night, (C,).
    Source: prediction limits: Hahn 1970, Journal of Quality Technology 2:195; ranks: Vovk, Gammerman & Shafer 2005, 2.2.

    >>> reference = Reference(np.random.default_rng(0).normal(size=(40, 6)))
    >>> found = chart(reference, [9.0, 0, 0, 0, 0, 0])
    >>> found.over.tolist(), found.rank
    ([True, False, False, False, False, False], 1)
    """
    values = np.asarray(night, np.float64)
    count, channels = reference.nights.shape
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise VerdictError(f"night must be {channels} finite numbers; got {night!r}. Chart nights of the same channels.")
    away = values - reference.nights.mean(axis=0)
    distance = away / reference.spread()
    moved = np.abs(away) > reference.floors()
    if count < RANK_NIGHTS:
        return Charted(distance, moved & (np.abs(distance) > reference.limit()), None)
    every = np.vstack([reference.nights, values])  # (L + 1, C): all nights alike, so that ranks are exact
    spread = every.std(axis=0)
    standing = np.abs(every - every.mean(axis=0)) / np.where(spread > 0, spread, 1)  # (L + 1, C)
    largest = standing.max(axis=1)
    allowed = FALSE_ALARMS * (count + 1) // 1
    bar = np.sort(largest[:-1])[count - allowed]
    return Charted(distance, moved & (standing[-1] > bar), 1 + int((largest[:-1] >= largest[-1]).sum()))


def start(reference: Reference) -> Carried:
    """Before the first night after the reference.

    >>> start(Reference(np.zeros((20, 6)))).over
    False
    """
    return Carried(False, cusum.start(reference.nights.shape[1]))


def judge(reference: Reference, before: Carried, night: ArrayLike) -> tuple[Carried, Judged]:
    """The night's state, and what the next night needs.

    A sum of the CUSUM suspends when it is over 7 and the mean distance since it left 0 is beyond the effect floor. A suspension
    ends by itself: with a night within the limits, and with sums that fell back to 7 (at most two nights at the mean).

    >>> rng = np.random.default_rng(0)
    >>> reference = Reference(rng.normal(0, 0.01, size=(20, 6)))
    >>> carried, first = judge(reference, start(reference), [-0.2, 0, 0, 0, 0, 0])
    >>> carried, second = judge(reference, carried, [-0.2, 0, 0, 0, 0, 0])
    >>> print(first.state, second.sentence, sep="; ")
    watch; suspended after two nights in a row: light: brightness 18 % lower (limit 3.8 %) than in the 20 reference nights
    """
    charted = chart(reference, night)
    values, slack = np.asarray(night, np.float64), cusum.slack_of(len(reference.nights))
    sums = cusum.update(before.cusum, charted.distance, slack)
    shift = sums.shift(slack)
    drifted = (sums.largest() > cusum.LIMIT) & (np.abs(shift) * reference.spread() > reference.floors())
    over = bool(charted.over.any())
    after = Carried(over, sums)
    away = values - reference.nights.mean(axis=0)
    limits = reference.limits() * reference.spread() if charted.rank is None else None
    if over and before.over:
        state, how, named = "suspended", " after two nights in a row", _largest(np.abs(charted.distance), charted.over)
    elif drifted.any():
        state, how, named = "suspended", " after a slow drift", _largest(sums.largest(), drifted)
        away, limits = shift * reference.spread(), None
    elif over:
        state, how, named = "watch", "", _largest(np.abs(charted.distance), charted.over)
    else:
        return after, Judged("ok", (), "ok: like the reference nights", charted)
    sources = tuple(dict.fromkeys(reference.channels()[i].source for i in named))
    what = ", ".join(_moved(reference, i, away[i], None if limits is None else limits[i]) for i in named)
    text = f"{state}{how}: {' and '.join(sources)}: {what} than in the {len(reference.nights)} reference nights"
    return after, Judged(state, sources, text, charted)


def _largest(size: NDArray[np.float64], among: NDArray[np.bool_]) -> list[int]:
    """The channels with the largest size, and those tied with it, largest first."""
    found = np.flatnonzero(among & (size >= TIED * size[among].max()))
    return found[np.argsort(-size[found], kind="stable")].tolist()


def _moved(reference: Reference, index: int, away: float, limit: float | None) -> str:
    """How far a channel moved, in words that need no logarithm. limit: how far it may; None where that is no number."""
    channel = reference.channels()[index]
    name, way = channel.name.replace("_", " "), "higher" if away > 0 else "lower"
    usual, at_limit = reference.nights[:, index].mean(), None if limit is None else float(np.copysign(limit, away))

    def said(moved: float) -> str:
        if channel.unit == "log":
            return f"{abs(100 * np.expm1(moved)):.2g} %"
        if channel.unit == "scale":
            return f"{abs(moved):.2g} of the good images' spread"
        return f"{100 * np.sin(np.clip(usual + moved, 0, np.pi / 2)) ** 2:.2g} %"

    instead = f" instead of {said(0.0)}," if channel.unit == "share" else ""
    return f"{name} {said(away)}{instead} {way}{'' if at_limit is None else f' (limit {said(at_limit)})'}"
