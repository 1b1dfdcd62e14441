"""A two-sided CUSUM of a channel's nights, which finds small shifts that stay, and how often it is wrong, computed.

k = 0.5 and h = 7 of the textbooks hold for a mean that is known. The mean of 20 nights is off by 0.22 standard deviations, the
worst of eight channels by about 0.5: with k = 0.5 some sum of unchanged nights exceeds 7 within 30 nights in half of all
references. So k is 0.5 beyond what the reference's own mean may be off by, 2.24 / sqrt(L); with a long reference it is 0.5.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from models.faults import VerdictError

SLACK = 0.5  # k of a known mean: half of the shift, in standard deviations of a night, that is found soonest
MEAN_ERRORS = 2.24  # the mean of L normal nights is off by more than 2.24 / sqrt(L) in 2.5 % of references
LIMIT = 7.0  # h
NODES = 48  # of Gauss-Legendre over [0, h]: run lengths are right to six digits (tested against 96)
REFERENCE_NODES = 16  # of the quadratures over the errors of a reference's mean and spread
ABOVE_LIMIT = 1.0  # a sum stops here above h, so that two quiet nights end a suspension, however long it lasted
MOST = 4.0  # a night counts as no further than this, so that one night alone never exceeds h


class Cusum(NamedTuple):
    """The sums of every channel, (C,) float64, in standard deviations, and the nights since each sum was last 0, (C,)."""

    high: NDArray[np.float64]
    low: NDArray[np.float64]
    nights_high: NDArray[np.int64]
    nights_low: NDArray[np.int64]

    def largest(self) -> NDArray[np.float64]:
        """The larger sum of each channel, (C,)."""
        return np.maximum(self.high, self.low)

    def shift(self, slack: float) -> NDArray[np.float64]:
        """Each channel's mean distance since its larger sum was 0, (C,), signed: k + S / nights; 0 while both are 0.

        Source: Montgomery 2019, Introduction to Statistical Quality Control, section 9.1.2.
        """
        up = self.high >= self.low
        total, nights = np.where(up, self.high, self.low), np.where(up, self.nights_high, self.nights_low)
        size = np.where(nights > 0, slack + total / np.maximum(nights, 1), 0.0)
        return np.where(up, size, -size)


def slack_of(reference: int) -> float:
    """k for a reference of L nights: 0.5 + 2.24 / sqrt(L).

    >>> print(round(slack_of(20), 2), round(slack_of(100), 2))
    1.0 0.72
    """
    return float(SLACK + MEAN_ERRORS / np.sqrt(reference))


def start(channels: int) -> Cusum:
    """Sums of 0.

    >>> start(2).largest()
    array([0., 0.])
    """
    zero, none = np.zeros(channels), np.zeros(channels, np.int64)
    return Cusum(zero, zero, none, none)


def update(cusum: Cusum, distance: ArrayLike, slack: float) -> Cusum:
    """After one more night: S+ = max(0, S+ + z - k), S- = max(0, S- - z - k), each stopped at h + 1. z is cut at -4 and 4.

    Args:
        distance: z, the night's signed distance from the reference's mean in its standard deviations, (C,).
    Source: Page 1954, Biometrika 41:100; the cut: Lucas & Crosier 1982, Communications in Statistics 11:2669.

    >>> update(update(start(1), [2.0], slack=0.5), [2.0], slack=0.5).high
    array([3.])
    """
    z = np.clip(np.asarray(distance, np.float64), -MOST, MOST)
    if z.shape != cusum.high.shape or np.isnan(z).any():
        rule = f"{len(cusum.high)} numbers, one a channel"
        raise VerdictError(f"distance must be {rule}; got {distance!r}. Leave out nights that have no value.")
    high = np.clip(cusum.high + z - slack, 0, LIMIT + ABOVE_LIMIT)
    low = np.clip(cusum.low - z - slack, 0, LIMIT + ABOVE_LIMIT)
    return Cusum(high, low, np.where(high > 0, cusum.nights_high + 1, 0), np.where(low > 0, cusum.nights_low + 1, 0))


def run_length(shift: float = 0.0, scale: float = 1.0, slack: float = SLACK, limit: float = LIMIT) -> float:
    """Mean nights from 0 until a sum of one channel exceeds the limit: false alarms at shift 0, the delay at others.

    One side's L(u) = 1 + L(0) F(k - u) + integral over 0..h of L(y) f(y + k - u) dy, with the density f of a night, by
    Gauss-Legendre; two sides: 1/L = 1/L+ + 1/L-, exact for these sums.
    Assumes independent nights N(shift, scale^2), in the reference's standard deviations, and leaves out that `update` cuts z
    at 4, which only makes run lengths a little longer.
    Source: Goel & Wu 1971, Technometrics 13:221; Kemp 1961, JRSS B 23:149.

    >>> print(round(run_length(limit=5.0), 1), round(run_length(shift=1.0, limit=5.0), 2))  # Hawkins and Olwell's tables
    465.4 10.38
    >>> print(round(run_length()), round(run_length(shift=1.0), 1), round(run_length(shift=2.0, slack=slack_of(20)), 1))
    3483 14.4 7.8
    """
    if not (scale > 0 and limit > 0 and slack >= 0):
        raise VerdictError(f"scale and limit must be above 0; got {(scale, limit)!r}. k = 0.5 and h = 7 are usual.")
    up = _one_side(np.array([shift]), np.array([scale]), slack, limit)
    down = _one_side(np.array([-shift]), np.array([scale]), slack, limit)
    return float(1 / (1 / up[0] + 1 / down[0]))


def false_suspension(reference: int, channels: int, horizon: int, slack: float | None = None) -> float:
    """The chance that a sum of some channel exceeds h within a horizon of unchanged nights, over references of L nights.

    A reference's mean errs by N(0, 1/L) standard deviations and its variance by chi2_{L-1} / (L - 1): both are integrated
    over. Given them, the chance S_n(u) of no alarm in n nights from the sum u is followed exactly, one side at a time:
    S_n(u) = S_{n-1}(0) F(k - u) + integral over 0..h of S_{n-1}(y) f(y + k - u) dy.
    Assumes independent normal nights and channels; channels that move together alarm less often. The chances of both sides
    are added, which errs upward.

    Args:
        reference: L, at least 2 nights.  channels: C.  horizon: nights watched.  slack: `slack_of(reference)` if None.

    >>> print(round(false_suspension(reference=20, channels=8, horizon=30), 2))
    0.05
    >>> print(round(false_suspension(reference=20, channels=8, horizon=30, slack=0.5), 2))
    0.5
    """
    if reference < 2 or channels < 1 or horizon < 1:
        given = (reference, channels, horizon)
        raise VerdictError(
            f"reference must be at least 2, channels and horizon 1; got {given!r}. 20 nights are the least used."
        )
    middle, weight = np.polynomial.legendre.leggauss(REFERENCE_NODES)
    steps = (middle + 1) / 2  # quantiles, so that both laws are integrated with the same nodes
    mean = norm.ppf(steps) / np.sqrt(reference)  # (Q,), symmetric
    spread = np.sqrt(chi2.ppf(steps, reference - 1) / (reference - 1))  # (Q,)
    shift, scale = np.broadcast_arrays(-mean[:, None] / spread, 1 / spread[None, :])  # (Q, Q): a night in the reference's units
    k = slack_of(reference) if slack is None else slack
    up = 1 - _survival(shift.ravel(), scale.ravel(), k, horizon).reshape(shift.shape)  # (Q, Q)
    quiet = weight / 2 @ (1 - np.minimum(up + up[::-1], 1)) @ (weight / 2)  # the lower sum sees the mirrored mean
    return float(1 - quiet**channels)


def _one_side(shift: NDArray[np.float64], scale: NDArray[np.float64], slack: float, limit: float) -> NDArray[np.float64]:
    """Mean run length of the upper sum from 0, (G,), of G laws of a night."""
    kernel, to_zero = _moves(shift, scale, slack, limit)
    system = np.eye(kernel.shape[1]) - kernel
    system[:, :, 0] -= to_zero
    lengths: NDArray[np.float64] = np.linalg.solve(system, np.ones((len(shift), kernel.shape[1], 1))).astype(np.float64)
    return lengths[:, 0, 0]


def _survival(shift: NDArray[np.float64], scale: NDArray[np.float64], slack: float, horizon: int) -> NDArray[np.float64]:
    """The chance that the upper sum stays within the limit for a horizon of nights, from 0, (G,)."""
    kernel, to_zero = _moves(shift, scale, slack, LIMIT)
    quiet = np.ones((len(shift), kernel.shape[1], 1))
    for _ in range(horizon):
        quiet = kernel @ quiet + to_zero[:, :, None] * quiet[:, :1]
    return quiet[:, 0, 0]


def _moves(
    shift: NDArray[np.float64], scale: NDArray[np.float64], slack: float, limit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A night's moves of the upper sum between 0 and the quadrature's nodes: the weighted density (G, N + 1, N + 1), whose
    first column is 0, and the chance of falling to 0, (G, N + 1)."""
    at, weight = np.polynomial.legendre.leggauss(NODES)
    nodes = np.concatenate([[0.0], (at + 1) / 2 * limit])
    weights = np.concatenate([[0.0], weight / 2 * limit])
    mean, spread = shift[:, None, None], scale[:, None, None]
    step = nodes[None, None, :] + slack - nodes[None, :, None]  # (1, N + 1, N + 1): the night's distance for a move u to y
    kernel = norm.pdf((step - mean) / spread) / spread * weights
    to_zero = norm.cdf((slack - nodes[None, :] - shift[:, None]) / scale[:, None])
    return kernel, to_zero
