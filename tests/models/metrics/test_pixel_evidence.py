"""Pixel figures with intervals: the figures are those of the exact curves, the intervals hold them."""

import numpy as np
import pytest

from models.metrics.aupro import AuproCurve
from models.metrics.pixel_evidence import PixelEvidence, pixel_intervals
from models.metrics.ranking import PixelCurve


def test_figures_are_exact_and_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    good, defects, curve, overlaps = PixelEvidence(), PixelEvidence(), PixelCurve(), AuproCurve()
    for i in range(24):
        shape = (20 + i, 30)
        mask = np.zeros(shape, bool)
        if i % 2:
            mask[3:8, 4 : 8 + i // 2] = True
        anomaly_map = (rng.gamma(2, 1, shape) + mask).astype(np.float32)
        (defects if i % 2 else good).add(anomaly_map, mask, f"piece {i // 3}")
        curve.add(anomaly_map, mask)
        overlaps.add(anomaly_map, mask)
    found = pixel_intervals([good, defects], draws=200, seed=0)
    exact = curve.figures()
    assert found["pixel_auroc"].value == exact.auroc and found["pixel_f1_max"].value == exact.f1_max
    assert found["pixel_average_precision"].value == exact.average_precision
    assert found["aupro"].value == pytest.approx(overlaps.area())
    assert found["aupro_strict"].value == pytest.approx(overlaps.area(limit=0.05))
    for figure in found.values():
        assert figure.low < figure.value < figure.high and figure.high - figure.low < 0.3
    assert found == pixel_intervals([good, defects], draws=200, seed=0)


def test_good_images_alone_have_no_figures() -> None:
    good = PixelEvidence()
    for i in range(3):
        good.add(np.ones((4, 4), np.float32), np.zeros((4, 4), bool), str(i))
    assert all(np.isnan(figure.value) and np.isnan(figure.low) for figure in pixel_intervals([good], 100, 0).values())


def test_pixels_that_do_not_count_change_no_figure() -> None:
    rng, shape = np.random.default_rng(0), (20, 30)
    counted = np.zeros(shape, bool)
    counted[:, 10:] = True
    cut, masked = PixelEvidence(), PixelEvidence()
    for number in range(6):
        mask = np.zeros(shape, bool)
        mask[4:9, 15 : 16 + number] = number > 0
        maps = (rng.gamma(2, 1, shape) + mask).astype(np.float32)
        cut.add(maps[:, 10:], mask[:, 10:], str(number))
        mask[:, 2:5] = maps[:, 2:5] = True
        masked.add(maps, mask, str(number), counted)
    ones, others = (pixel_intervals([evidence], draws=100, seed=0) for evidence in (cut, masked))
    assert ones == others and ones["aupro"].value > 0
