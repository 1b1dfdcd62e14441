"""Ranking metrics against scikit-learn, and the streaming pixel metrics against the exact ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from models.metrics.ranking import PixelCurve, auroc, average_precision, f1_max, score_classes


def sample(seed: int, count: int = 300, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.3
    scores = (rng.standard_normal(count) + labels).astype(np.float32)
    return (np.round(scores) if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed: int, ties: bool) -> None:
    scores, labels = sample(seed, ties=ties)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert f1_max(scores, labels) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_area_is_to_the_last_bit_that_of_mean_ranks(seed: int) -> None:
    scores, labels = sample(seed, count=10 + 20 * seed, ties=seed % 2 == 0)
    scores[0], scores[-1], labels[0], labels[-1] = np.inf, -np.inf, seed % 3 == 0, seed % 3 > 0
    defects, goods = labels.sum(), (~labels).sum()
    u = rankdata(scores)[labels].sum() - defects * (defects + 1) / 2
    assert auroc(scores, labels) == u / (defects * goods)


def test_a_score_that_is_no_number_leaves_no_area() -> None:
    assert np.isnan(auroc(np.array([0.1, np.nan, 0.3]), np.array([False, False, True])))


def test_a_missing_class_has_no_figure() -> None:
    scores = np.arange(4, dtype=np.float32)
    assert np.isnan(auroc(scores, np.zeros(4, bool))) and np.isnan(auroc(scores, np.ones(4, bool)))
    assert np.isnan(average_precision(scores, np.zeros(4, bool))) and np.isnan(f1_max(scores, np.zeros(4, bool)))
    assert np.isnan(average_precision(scores, np.ones(4, bool))) and np.isnan(f1_max(scores, np.ones(4, bool)))


def test_pixels_image_by_image_equal_all_at_once() -> None:
    scores, labels = sample(5, 6000)
    rounded = (scores.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)  # 12 bits dropped: no class holds two
    curve = PixelCurve()
    for part in range(6):
        shape = (50, 20)
        where = slice(part * 1000, (part + 1) * 1000)
        curve.add(rounded[where].reshape(shape), labels[where].reshape(shape))
    found = curve.figures()
    assert found.auroc == pytest.approx(roc_auc_score(labels, rounded), abs=1e-12)
    assert found.average_precision == pytest.approx(average_precision_score(labels, rounded), abs=1e-12)
    assert found.f1_max == pytest.approx(f1_max(rounded, labels), abs=1e-12)


def test_curves_add_up() -> None:
    scores, labels = sample(6, 400)
    whole, first, second = PixelCurve(), PixelCurve(), PixelCurve()
    whole.add(scores, labels)
    first.add(scores[:100], labels[:100])
    second.add(scores[100:], labels[100:])
    assert (first + second).figures() == whole.figures()


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=50))
def test_classes_rise_with_the_score(values: list[float]) -> None:
    scores = np.sort(np.array(values, np.float32))
    for bits in (16, 20):
        assert (np.diff(score_classes(scores, bits)) >= 0).all()
