"""Scales put every view's median at 0 and its 90 % point at 1."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.view_scales import fit_scales, on_scale


def test_views_come_on_one_scale() -> None:
    rng = np.random.default_rng(0)
    views = np.array(["dark", "bright"])[rng.integers(0, 2, 2000)]
    scores = np.where(views == "dark", 5 + rng.standard_normal(2000), 300 + 40 * rng.standard_normal(2000))
    z = on_scale(scores, views, fit_scales(scores, views))
    for view in ("dark", "bright"):
        assert np.quantile(z[views == view], (0.5, 0.9)) == pytest.approx([0, 1], abs=1e-5)


def test_the_scale_does_not_move_with_new_scores() -> None:
    scales = fit_scales([0, 1, 2], ["", "", ""])
    assert on_scale([1.0, 100.0], np.array(["", ""]), scales)[0] == on_scale([1.0], np.array([""]), scales)[0]


def test_a_view_without_spread() -> None:
    with pytest.raises(VerdictError, match="scores of view 'b' must differ on the selection set; got median 3.0"):
        fit_scales([0, 1, 2, 3, 3, 3], list("aaabbb"))


@pytest.mark.parametrize("view", ["A", "b", "z"])
def test_an_unknown_view(view: str) -> None:
    with pytest.raises(VerdictError, match="view must be one of"):
        on_scale([1.0], np.array([view]), fit_scales([0, 1, 2] * 2, list("aaaccc")))
