"""Agreement of repeated verdicts: counts by hand, and the interval where imagings of a piece are alike."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.exact_interval import two_sided
from models.verdicts.repeatability import repeatability


def test_counts_by_hand():
    flagged = [True, True, True, False, False, True, False, False, True]
    found = repeatability(flagged, list("aaabbcccd"))
    assert found.agreeing == two_sided(2, 3)  # a and b agree; c does not; d was imaged once
    assert found.pairs == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert (found.fewest, found.most, found.left_out) == (2, 3, 1)


def test_the_interval_holds_by_piece():
    """30 pieces imaged 4 times, a tenth of them near the threshold; the true share is known."""
    rng = np.random.default_rng(0)
    chance = np.array([0.02, 0.5])
    near = 0.1
    alike = chance**4 + (1 - chance) ** 4
    truth = (1 - near) * alike[0] + near * alike[1]
    covered, runs = 0, 2000
    for _ in range(runs):
        kind = (rng.random(30) < near).astype(int)
        flagged = rng.random((30, 4)) < chance[kind][:, None]
        found = repeatability(flagged.ravel(), np.repeat(np.arange(30), 4))
        covered += found.agreeing.low <= truth <= found.agreeing.high
    assert covered / runs >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / runs)


def test_something_must_be_imaged_twice():
    with pytest.raises(VerdictError, match="at least twice"):
        repeatability([True, False], ["a", "b"])
    with pytest.raises(VerdictError, match="flagged must be"):
        repeatability([True, False], ["a"])
