"""The comparison with `nonconform`, whose formula stands here in fractions: it sees differences, and calibrations have ties."""

from fractions import Fraction

import docs_script
import numpy as np
import pytest


@pytest.fixture(scope="module")
def benchmark():
    return docs_script.load("benchmarks/verdicts/same_p_values.py")


def classical(new, good):
    n = len(good)
    return np.array([float(Fraction(1 + sum(score <= known for known in good.tolist()), n + 1)) for score in new.tolist()])


def strict(new, good):
    """Ties count for the new piece: no valid p-value."""
    n = len(good)
    return np.array([float(Fraction(1 + sum(score < known for known in good.tolist()), n + 1)) for score in new.tolist()])


def off_by_a_bit(new, good):
    return np.nextafter(classical(new, good), 0)


@pytest.mark.parametrize("seed", range(6))
def test_pieces_of_one_to_six_images(benchmark, seed):
    one = benchmark.case(seed)
    assert one.good.shape[1] == one.new.shape[1] == seed + 1
    found = benchmark.compare(one, classical)
    assert found.different == 0 and found.values == benchmark.NEW
    assert found.tied > benchmark.NEW / 2 and found.repeated > len(one.good) / 2
    assert benchmark.compare(one, strict).different == found.tied
    assert benchmark.compare(one, off_by_a_bit).different == benchmark.NEW
