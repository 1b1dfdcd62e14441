"""The design effect of the exceedance: what was put in comes out, and the exceedance is not the score."""

import numpy as np
import pytest
from scipy.stats import norm

from models.verdicts.design_effect import design_effect


def test_it_is_the_variance_of_the_share_against_independence() -> None:
    rng, lots, size = np.random.default_rng(0), 40, 25
    shares, effects = [], []
    for _ in range(1500):
        own = rng.beta(2, 18, lots)  # intraclass correlation 1 / 21
        exceeds = rng.random((lots, size)) < own[:, None]
        shares.append(exceeds.mean())
        effects.append(design_effect(exceeds.ravel(), np.repeat(np.arange(lots), size)).effect)
    independent = 0.1 * 0.9 / (lots * size)
    truth = 1 + (size - 1) / 21
    assert np.var(shares) / independent == pytest.approx(truth, rel=0.15)
    assert np.mean(effects) == pytest.approx(truth, rel=0.05)


def test_anova_by_hand_with_groups_of_two_sizes() -> None:
    exceeds = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0], bool)
    groups = np.array(list("aaabbbbcc"))
    sizes, means = np.array([3, 4, 2]), np.array([2 / 3, 1 / 4, 0])
    between = (sizes * (means - 3 / 9) ** 2).sum() / 2
    within = (sizes * means * (1 - means)).sum() / 6
    typical = (9 - 29 / 9) / 2
    found = design_effect(exceeds, groups)
    assert found.intraclass == pytest.approx((between - within) / (between + (typical - 1) * within))
    assert found.effect == pytest.approx(1 + (29 / 9 - 1) * max(0, found.intraclass))
    assert found.effective == pytest.approx(9 / found.effect)


def test_exceedances_correlate_less_than_scores() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(3000), 8)
    scores = 0.5**0.5 * (rng.standard_normal(3000)[groups] + rng.standard_normal(24_000))
    found = design_effect(scores > norm.isf(0.01), groups)
    assert 0.05 < found.intraclass < 0.25  # the scores' own is 0.5


def test_never_below_one_and_nothing_from_nothing() -> None:
    alternating = design_effect([True, False] * 20, np.repeat(np.arange(20), 2))
    assert alternating.intraclass == pytest.approx(-1) and alternating.effect == 1 and alternating.effective == 40
    for exceeds, groups in (([True, False, True], ["a"] * 3), ([False] * 4, list("aabb")), ([True] * 4, list("aabb"))):
        assert np.isnan(design_effect(exceeds, groups)).all()
    single = design_effect([True, False, False], list("abc"))
    assert np.isnan(single.intraclass) and single.effect == 1 and single.effective == 3
