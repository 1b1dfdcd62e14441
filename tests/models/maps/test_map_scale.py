"""Percentiles of counted cells are those of all cells, within the width of a bin."""

import numpy as np
import pytest

from models.maps.map_scale import CellCounts, MapScale


def counted(*maps: np.ndarray) -> CellCounts:
    counts = CellCounts()
    for cells in maps:
        counts.add(cells)
    return counts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["gamma", "normal", "heavy"])
def test_percentiles_are_within_a_bin_of_the_exact_ones(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = {
        "gamma": rng.gamma(2, 0.01, 40_000),
        "normal": rng.normal(0, 5, 40_000),
        "heavy": rng.standard_cauchy(40_000) * 1e6,
    }
    cells = drawn[kind].astype(np.float32)
    counts = counted(*cells.reshape(40, 25, 40))
    assert counts.total == 40_000
    for percentile, rank in ((0, 1), (0.1, 40), (5.0, 2_000), (50.0, 20_000), (99.9, 39_960), (100, 40_000)):
        exact = float(np.sort(cells)[rank - 1])
        assert exact - abs(exact) / 2000 <= counts.at(percentile) <= exact
    assert counts.scale() == MapScale(counts.at(50.0), counts.at(99.9))


def test_neither_order_nor_split_changes_anything() -> None:
    cells = np.random.default_rng(0).gamma(2, 1, (64, 8, 8)).astype(np.float32)
    assert counted(*cells).scale() == counted(cells[::-1]).scale() == counted(cells[32:], cells[:32]).scale()


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 1e-45, np.finfo(np.float32).max, np.finfo(np.float32).min])
def test_one_value_is_a_scale_without_width(value: float) -> None:
    low, high = counted(np.full((3, 5), value, np.float32)).scale() or (1, 0)
    assert low == high and low <= np.float32(value)
    assert low == pytest.approx(value, rel=1 / 2000, abs=1e-41)


def test_memory_does_not_grow() -> None:
    counts = counted(*(np.full((256, 256), number, np.float32) for number in range(50)))
    assert counts.total == 50 * 256 * 256 and sum(array.nbytes for array in vars(counts).values()) == 8 << 20
