"""Fields of light: they reach what they say and no further, round and saturate as a sensor does, and follow their draw."""

import numpy as np
import pytest

from models.alterations.light import OFFSET_LEVELS, LightField, drawn, lit, ramp


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 13))
@pytest.mark.parametrize("shape", [(64, 64), (40, 90)])
def test_a_gradient_reaches_both_ends_whatever_its_direction(angle, shape):
    found = ramp(shape, angle)
    assert (
        found.dtype == np.float32 and found.max() == pytest.approx(1, abs=1e-5) and found.min() == pytest.approx(-1, abs=1e-5)
    )
    assert float(found.mean()) == pytest.approx(0, abs=1e-5)  # the image is as bright as before, until it is clipped
    assert found == pytest.approx(-found[::-1, ::-1], abs=1e-5)


def test_the_bright_side_is_where_the_angle_points():
    grey = np.full((9, 9, 3), 100, np.uint8)
    right, bottom = (lit(grey, LightField(gradient=0.4, angle=angle))[..., 0] for angle in (0.0, np.pi / 2))
    assert (right[:, 0] == 60).all() and (right[:, -1] == 140).all()
    assert (bottom[0] == 60).all() and (bottom[-1] == 140).all()


def test_values_are_rounded_and_clipped():
    image = np.array([[[0, 5, 255]]], np.uint8)
    assert lit(image, LightField(gain=0.5)).tolist() == [[[0, 8, 255]]]  # 7.5 to the even neighbour
    assert lit(image, LightField(offset=-10)).tolist() == [[[0, 0, 245]]]
    assert lit(image, LightField()).tolist() == image.tolist()


def test_what_is_drawn_stays_within_the_strength_and_fills_it():
    fields = [drawn(0.4, np.random.default_rng(seed)) for seed in range(2000)]
    gains, gradients = (np.array([getattr(field, name) for field in fields]) for name in ("gain", "gradient"))
    assert (np.abs(gains) + gradients <= 0.4).all() and (gradients >= 0).all()
    assert np.quantile(gradients, [0.1, 0.9]) == pytest.approx([0.04, 0.36], abs=0.02)
    assert gains.min() < -0.3 and gains.max() > 0.3
    offsets = np.array([field.offset for field in fields])
    assert 0.35 * OFFSET_LEVELS < np.abs(offsets).max() <= 0.4 * OFFSET_LEVELS
