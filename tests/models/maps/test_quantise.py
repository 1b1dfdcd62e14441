import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.maps.quantise import dequantise, quantise

values = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@given(arrays(np.float32, (3, 5), elements=values))
def test_error_is_at_most_half_a_step(anomaly_map):
    cells, scale, offset = quantise(anomaly_map)
    assert len(cells) == 15
    assert np.float32(scale) == scale and np.float32(offset) == offset
    grid = np.frombuffer(cells, np.uint8).reshape(3, 5)
    exact = offset + scale * grid.astype(np.float64)
    span = float(anomaly_map.max()) - float(anomaly_map.min())
    assert np.abs(exact - anomaly_map.astype(np.float64)).max() <= span / 510 * (1 + 1e-6)


@pytest.mark.parametrize("value", [0.0, -3.25, 1e-30])
def test_constant_map_comes_back_exactly(value):
    anomaly_map = np.full((4, 2), value, np.float32)
    np.testing.assert_array_equal(dequantise(*_with_shape(anomaly_map)), anomaly_map)


def test_row_major_and_full_range():
    anomaly_map = np.array([[0.0, 1.0, 2.0], [255.0, 254.0, 128.0]], np.float32)
    cells, scale, offset = quantise(anomaly_map)
    assert list(cells) == [0, 1, 2, 255, 254, 128]
    assert (scale, offset) == (1.0, 0.0)
    np.testing.assert_array_equal(dequantise(cells, 2, 3, scale, offset), anomaly_map)


def _with_shape(anomaly_map):
    cells, scale, offset = quantise(anomaly_map)
    return cells, *anomaly_map.shape, scale, offset
