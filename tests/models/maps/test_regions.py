"""Regions against scikit-image on grids where a cell is a whole number of pixels, and their invariants on any grid."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from models.maps.regions import MAX_REGIONS, Placement, Region, Side, find_regions


def squashed(width, height, input_px=64):
    return Placement(Side(input_px, 0, input_px, width), Side(input_px, 0, input_px, height))


def maps(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_only_cells_above_the_threshold_are_a_region():
    """At the second largest of the maxima, one map has a region: a cell equal to the threshold is none."""
    held_out = [maps(seed, (8, 8)) for seed in range(40)]
    threshold = sorted(anomaly_map.max() for anomaly_map in held_out)[-2]
    found = [find_regions(anomaly_map, threshold, squashed(80, 80)).count for anomaly_map in held_out]
    assert sum(count > 0 for count in found) == 1


@pytest.mark.parametrize("seed", range(5))
def test_whole_pixels_a_cell_agree_with_scikit_image(seed):
    """Every cell is 4 x 3 pixels (down x across) of the stored image, so that regions can be measured on the enlarged map."""
    anomaly_map = maps(seed, (9, 14))
    enlarged = anomaly_map.repeat(4, axis=0).repeat(3, axis=1)  # (36, 42)
    found = find_regions(anomaly_map, 0.8, squashed(42, 36))
    expected = sorted(
        regionprops(label(enlarged > np.float32(0.8), connectivity=2), enlarged.astype(np.float64) - np.float32(0.8)),
        key=lambda each: -each.intensity_max,
    )
    assert found.count == len(expected) == len(found.regions) > 3
    for region, each in zip(found.regions, expected, strict=True):
        assert (region.y0, region.x0, region.y1, region.x1) == each.bbox
        assert region.area_px == each.area
        values = enlarged[tuple(each.coords.T)].astype(np.float64)
        assert region.peak == values.max() and region.mass == pytest.approx(values.sum() / 12)
        row, column = each.centroid_weighted  # of pixel centres, which are at half pixels of ours
        assert (region.centroid_y, region.centroid_x) == pytest.approx((row + 0.5, column + 0.5))


def test_corners_connect():
    anomaly_map = np.array([[5, 0, 0], [0, 7, 0], [0, 0, 0]], np.float32)
    (region,) = find_regions(anomaly_map, 1.0, squashed(30, 30)).regions
    assert region[:6] == (0, 0, 20, 20, 200.0, 7.0) and region.mass == 12.0
    assert region.centroid_x == region.centroid_y == pytest.approx((4 * 5 + 6 * 15) / 10)


def test_the_threshold_itself_is_not_above():
    anomaly_map = np.full((2, 2), 0.1, np.float32)
    assert find_regions(anomaly_map, 0.1, squashed(4, 4)).count == 0  # 0.1 is compared as float32
    assert find_regions(anomaly_map, float(np.nextafter(np.float32(0.1), np.float32(0))), squashed(4, 4)).count == 1


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (4000, 3000), (1, 9999)])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (3, 7), (1, 40)])
def test_a_region_that_is_the_whole_map_is_the_whole_image(shape, size):
    (region,) = find_regions(np.full(shape, 2.0, np.float32), 1.0, squashed(*size)).regions
    assert region[:4] == (0, 0, *size)
    assert region.area_px == pytest.approx(size[0] * size[1]) and region.mass == 2 * shape[0] * shape[1]
    assert (region.centroid_x, region.centroid_y) == pytest.approx((size[0] / 2, size[1] / 2))


def test_negative_maps_are_as_good_as_others():
    anomaly_map = maps(3, (12, 12))
    shifted = find_regions(anomaly_map - np.float32(64), -63.0, squashed(120, 120))
    plain = find_regions(anomaly_map, 1.0, squashed(120, 120))
    assert [each[:5] for each in shifted.regions] == [each[:5] for each in plain.regions]
    assert shifted.regions[0].mass < 0
    assert shifted.regions[0].centroid_x == pytest.approx(plain.regions[0].centroid_x, abs=1e-3)


def test_padding_is_cut_off():
    """A 200 x 100 image takes rows 16 to 48 of the 64 x 64 input: rows 2 to 6 of 8, and 1 (half) to 3 (half) of 4."""
    padded = Placement(Side(64, 0, 64, 200), Side(64, 16, 32, 100))
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[0, 3] = 9.0  # in the padding
    anomaly_map[1:3, 5] = 4.0  # half of it in the padding
    anomaly_map[6:, 0] = 3.0
    (region,) = find_regions(anomaly_map, 1.0, padded).regions
    assert region == Region(125, 0, 150, 25, 625.0, 4.0, 4.0, 137.5, 12.5)
    assert padded.shown(anomaly_map).shape == (4, 8) and padded.shown(anomaly_map).max() == 4.0
    three = Placement(Side(64, 0, 64, 200), Side(64, 11, 42, 100))  # rows 11 to 53: some of every row of four
    assert three.shown(np.zeros((4, 4))).shape == (4, 4)
    (clipped,) = find_regions(np.array([[2.0], [0.0], [0.0], [0.0]], np.float32), 1.0, three).regions
    assert clipped[:4] == (0, 0, 200, 12) and clipped.area_px == pytest.approx(200 * 100 * 5 / 42)


def test_many_regions_are_cut_and_counted():
    anomaly_map = np.zeros((32, 32), np.float32)
    anomaly_map[::2, ::2] = 1 + np.random.default_rng(0).permutation(256).reshape(16, 16)
    found = find_regions(anomaly_map, 0.5, squashed(320, 320))
    assert found.count == 256 and [each.peak for each in found.regions] == [256 - i for i in range(MAX_REGIONS)]
    anomaly_map[anomaly_map > 0] = 1.0
    equal = find_regions(anomaly_map, 0.5, squashed(320, 320)).regions
    assert [(each.y0, each.x0) for each in equal] == [(20 * (i // 16), 20 * (i % 16)) for i in range(MAX_REGIONS)]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    image=st.tuples(st.integers(1, 6000), st.integers(1, 6000)),
    side_px=st.integers(1, 300),
    share=st.floats(0.01, 1),
    at=st.floats(0, 1),
    threshold=st.sampled_from([-5.0, 0.5, 1.5]),
)
def test_invariants_on_any_grid(seed, shape, image, side_px, share, at, threshold):
    """Boxes and centroids inside the image, areas within it, every visible cell above the threshold in exactly one region."""
    width, height = image
    shown_px = max(1, round(side_px * share))
    start_px = round((side_px - shown_px) * at)
    placement = Placement(Side(side_px, start_px, shown_px, width), Side(side_px, 0, side_px, height))
    anomaly_map = maps(seed, shape)
    shown = placement.shown(anomaly_map)
    found = find_regions(anomaly_map, threshold, placement)
    assume(found.count <= MAX_REGIONS)
    assert found.count == len(found.regions) == label(shown > threshold, connectivity=2).max()
    peaks = [each.peak for each in found.regions]
    assert peaks == sorted(peaks, reverse=True)
    for each in found.regions:
        assert 0 <= each.x0 < each.x1 <= width and 0 <= each.y0 < each.y1 <= height
        assert each.x0 <= each.centroid_x <= each.x1 and each.y0 <= each.centroid_y <= each.y1
        assert 0 < each.area_px <= (each.x1 - each.x0) * (each.y1 - each.y0) * (1 + 1e-9)
    assert sum(each.area_px for each in found.regions) <= width * height * (1 + 1e-9)
    inside = shown[shown > threshold].astype(np.float64)
    assert sum(each.mass for each in found.regions) == pytest.approx(inside.sum())
    if threshold == -5.0 and found.count == 1 and inside.size == shown.size:
        assert found.regions[0][:4] == (0, 0, width, height)


def test_finding_regions_needs_no_torch():
    code = "import sys, models.maps.regions, pipeline.stages.commit; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
