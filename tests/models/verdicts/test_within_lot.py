"""Benjamini-Hochberg within a lot: the mean false-discovery proportion holds, and a small calibration says so."""

from fractions import Fraction

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.ranks import ranks, sorted_calibration
from models.verdicts.within_lot import flagged_together, min_flaggable, pieces_enough, q_values

Q = Fraction("0.1")


def test_integers_decide_as_exact_fractions_do() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, m = int(rng.integers(1, 120)), int(rng.integers(1, 60))
        rank = np.minimum(rng.integers(1, n + 2, m), rng.integers(1, n + 2, m))
        order = sorted(rank.tolist())
        passing = [r for k, r in enumerate(order, 1) if Fraction(r, n + 1) * m <= Q * k]
        expected = rank <= (max(passing) if passing else 0)
        assert flagged_together(rank, Q, n).tolist() == expected.tolist()
        clear = np.abs(q_values(rank, n) - float(Q)) > 1e-9
        assert (q_values(rank, n) <= float(Q))[clear].tolist() == expected[clear].tolist()


def test_mean_false_discovery_proportion() -> None:
    """500 lots of 200 pieces, each with a fresh calibration; 0 to 20 defects, some of them weak."""
    rng, lots, n, m = np.random.default_rng(1), 500, 1000, 200
    for defects in (0, 1, 5, 20):
        false = np.empty(lots)
        found_any = 0
        for lot in range(lots):
            scores = rng.standard_normal(n + m)
            scores[n : n + defects] += rng.choice([2.0, 5.0], defects)
            found = flagged_together(ranks(scores[n:], sorted_calibration(scores[:n])), Q, n)
            false[lot] = found[defects:].sum() / max(1, found.sum())
            found_any += bool(found[:defects].any())
        assert false.mean() <= 0.1 + 2 * false.std() / lots**0.5
        assert found_any > lots / 2 or defects < 20


def test_min_flaggable_is_what_can_be_flagged() -> None:
    for m, n in ((100, 99), (100, 999), (1000, 399), (7, 30), (100, 98)):
        least = min_flaggable(m, Q, n)
        for best in (least - 1, least):
            if 0 < best <= m:
                rank = np.array([1] * best + [n + 1] * (m - best))
                assert flagged_together(rank, Q, n).sum() == (best if best == least else 0)
    assert min_flaggable(29, Fraction("0.29"), 99) == 1  # 29 / 29 rounds up in floats


def test_pieces_enough_is_the_smallest_number() -> None:
    for m in (1, 100, 999, 5000):
        for flaggable in (1, 3, 10):
            n = pieces_enough(m, Q, flaggable)
            assert min_flaggable(m, Q, n) <= flaggable
            assert n == 1 or min_flaggable(m, Q, n - 1) > flaggable


def test_faults() -> None:
    with pytest.raises(VerdictError, match="judged pieces must be 1 or more; got 0"):
        q_values(np.empty(0, np.int64), 99)
    with pytest.raises(VerdictError, match="flaggable must be 1 or more; got 0"):
        pieces_enough(100, Q, 0)
    assert flagged_together(np.empty(0, np.int64), Q, 99).tolist() == []
