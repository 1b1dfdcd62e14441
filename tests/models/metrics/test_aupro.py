"""AUPRO against a direct implementation of its definition, threshold by threshold and region by region, and against the
pyaupro library."""

import numpy as np
import pytest
import torch
from pyaupro import PerRegionOverlap, auc_compute
from skimage.measure import label

from models.metrics.aupro import AuproCurve, binary_mask


def by_definition(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """Every score is a threshold, regions are found by scikit-image, the curve is integrated on a fine grid of rates."""
    regions = [
        (maps[i][labels == k])
        for i, mask in enumerate(masks)
        for labels in [label(mask, connectivity=2)]
        for k in range(1, labels.max() + 1)
    ]
    outside = np.concatenate([maps[i][~mask] for i, mask in enumerate(masks)])
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    rates = [0.0] + [float((outside >= t).mean()) for t in thresholds]
    overlaps = [0.0] + [float(np.mean([(region >= t).mean() for region in regions])) for t in thresholds]
    # Where several thresholds share a rate, the highest overlap is the one that the curve leaves from.
    grid = np.linspace(0, limit, 300_001)
    return float(np.trapezoid(np.interp(grid, rates, overlaps), grid) / limit)


def images(seed: int, count: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for i in range(count):
        shape = (int(rng.integers(12, 30)), int(rng.integers(12, 30)))
        mask = np.zeros(shape, bool)
        if i:  # the first image is good
            mask[2:5, 3:9] = True
            mask[8:11, 1 : 2 + i] = True
            mask[5, 9] = True  # touches the first region at a corner: one region by 8 neighbours
        scores = rng.standard_normal(shape).astype(np.float32) + mask * rng.uniform(0.5, 2)
        maps.append((scores.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_definition(seed: int, limit: float) -> None:
    maps, masks = images(seed)
    curve = AuproCurve()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        curve.add(anomaly_map, mask)
    assert curve.area(limit) == pytest.approx(by_definition(maps, masks, limit), abs=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_another_library(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 24, 32)) < 0.03  # single pixels and some that touch
    masks[0] = False
    maps = rng.random((5, 24, 32)).astype(np.float32) * 0.5 + masks * rng.random((5, 24, 32)).astype(np.float32) * 0.5
    maps = (maps.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    other = PerRegionOverlap(thresholds=None)
    curve = AuproCurve()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        curve.add(anomaly_map, mask)
    other.update(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64)))
    rates, overlaps = other.compute()
    assert curve.area(0.3) == pytest.approx(float(auc_compute(rates, overlaps, limit=0.3)), abs=2e-3)


def test_perfect_constant_and_empty() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:2, :2] = True
    perfect, constant, empty = AuproCurve(), AuproCurve(), AuproCurve()
    perfect.add(mask.astype(np.float32), mask)
    constant.add(np.ones((10, 10), np.float32), mask)
    empty.add(np.ones((10, 10), np.float32), np.zeros((10, 10), bool))
    assert perfect.area() == pytest.approx(1.0)
    assert constant.area() == pytest.approx(0.15)  # chance: half of the limit
    assert np.isnan(empty.area())


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    mask = np.zeros((20, 20), bool)
    mask[0, 0] = True
    mask[5:15, 5:15] = True
    scores = np.zeros((20, 20), np.float32)
    scores[0, 0] = 1  # only the single pixel is found before anything else
    curve = AuproCurve()
    curve.add(scores, mask)
    assert curve.area() == pytest.approx(0.5 + 0.5 * 0.15)


def test_curves_add_up() -> None:
    maps, masks = images(7)
    parts = []
    whole = AuproCurve()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        whole.add(anomaly_map, mask)
        part = AuproCurve()
        part.add(anomaly_map, mask)
        parts.append(part)
    assert (parts[0] + parts[1] + parts[2] + parts[3]).area() == pytest.approx(whole.area())


def test_grey_masks_are_cut_at_128() -> None:
    assert binary_mask(np.array([[0, 127, 128, 255]], np.uint8)).tolist() == [[False, False, True, True]]
