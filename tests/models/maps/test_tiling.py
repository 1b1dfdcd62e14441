"""Tiles cover every image, their weights sum to one, and what a detector says of tiles has no seams."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detectors.csflow import CsFlow
from models.features.whitening import moments_of
from models.maps.tiling import MAP_CELLS, Mosaic, TileScores, Tiling, blend, tile_origins, tile_weights

lengths = st.integers(1, 700)


@given(lengths, st.integers(1, 64), st.data())
def test_tiles_cover_every_length(length, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    origins = tile_origins(length, tile, overlap)
    assert origins[0] == 0 and (np.diff(origins) > 0).all()
    assert (tile - np.diff(origins) >= overlap).all()
    assert len(origins) == 1 if length <= tile else origins[-1] + tile == length


@given(lengths, st.integers(1, 64), st.data())
def test_weights_sum_to_one_everywhere(length, tile, data):
    origins = tile_origins(length, tile, data.draw(st.integers(0, tile // 2)))
    weights = tile_weights(origins, tile)
    total, covering = np.zeros(origins[-1] + tile), np.zeros(origins[-1] + tile, int)
    for origin, weight in zip(origins, weights, strict=True):
        total[origin : origin + tile] += weight
        covering[origin : origin + tile] += 1
    np.testing.assert_allclose(total, 1, rtol=1e-14)
    for origin, weight in zip(origins, weights, strict=True):
        assert (weight >= 0).all() and (weight[covering[origin : origin + tile] == 1] == 1).all()


def test_the_rim_of_a_tile_counts_for_nothing_where_another_tile_sees_it():
    weights = tile_weights(tile_origins(56, 32, 8), 32)  # origins 0, 24
    assert (weights[0][-2:] == 0).all() and (weights[1][:2] == 0).all()
    assert weights[0][0] == weights[1][-1] == 1


@settings(max_examples=60, deadline=None)
@given(lengths, lengths, st.sampled_from([(1, 1), (8, 4), (16, 32)]), st.sampled_from([0.0, 0.2, 0.25, 0.5]))
def test_any_size_gives_a_map_of_all_cells(height, width, cell, overlap):
    tiling = Tiling((64, 64), (64 // cell[0], 64 // cell[1]), overlap)
    grid = tiling.grid((height, width))
    truth = np.random.default_rng(0).random((grid.rows.cells + 64, grid.columns.cells + 64)).astype(np.float32)
    tops, lefts = (grid.origins // cell).T
    maps = np.stack(
        [truth[y : y + grid.rows.tile_cells, x : x + grid.columns.tile_cells] for y, x in zip(tops, lefts, strict=True)]
    )
    found = blend(maps, grid)
    inside = truth[: grid.rows.cells, : grid.columns.cells]
    assert found.dtype == np.float32 and found.shape == grid.map_size == (grid.rows.stored, grid.columns.stored)
    assert max(found.shape) <= MAP_CELLS and found.min() >= inside.min()
    np.testing.assert_allclose(found.max(), inside.max(), rtol=1e-6)  # no cell is lost
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    top, left = grid.rows.target[y], grid.columns.target[x]
    np.testing.assert_allclose(found[top, left], inside.max(), rtol=1e-6)
    assert abs((top + 0.5) * height / found.shape[0] - (y + 0.5) * cell[0]) <= max(height / found.shape[0], cell[0])
    if found.shape == inside.shape:
        np.testing.assert_allclose(found, inside, rtol=1e-6)


def test_an_image_of_one_tile_keeps_its_map_and_score():
    grid = Tiling((64, 32), (8, 8)).grid((64, 32))
    cells = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    scores = TileScores(grid)
    scores.add(np.array([0.3], np.float32), cells, np.ones((1, 32), np.float16))
    score, anomaly_map, embedding = scores.result()
    assert score == np.float32(0.3) and (anomaly_map == cells[0]).all() and (embedding == 1).all()


def test_the_score_is_the_highest_tiles_and_not_a_number_stays_one():
    grid = Tiling((32, 32), (4, 4)).grid((32, 80))
    values = np.array([0.1, 7.0, 0.2], np.float32)
    maps, embeddings = np.zeros((3, 4, 4), np.float32), np.repeat(np.float16([[1], [2], [6]]), 32, axis=1)
    whole, bad = TileScores(grid), TileScores(grid)
    for i in range(3):
        whole.add(values[i : i + 1], maps[i : i + 1], embeddings[i : i + 1])
    assert whole.result().score == 7 and (whole.result().embedding == 3).all()
    bad.add(np.array([np.nan, 1, 2], np.float32), maps, embeddings)
    assert np.isnan(bad.result().score)
    maps[0, 0, 0] = np.nan
    assert np.isnan(blend(maps, grid)).any()


def test_batches_do_not_change_a_bit():
    grid = Tiling((32, 32), (8, 8)).grid((150, 210))
    maps = np.random.default_rng(1).random((len(grid.origins), 8, 8)).astype(np.float32)
    parts = Mosaic(grid)
    for start in range(0, len(maps), 5):
        parts.add(maps[start : start + 5])
    assert (parts.result() == blend(maps, grid)).all()


def test_memory_follows_the_tile_row_and_not_the_image():
    tiling = Tiling((64, 64), (64, 64))

    def peak(height):
        grid = tiling.grid((height, 512))
        mosaic = Mosaic(grid)
        tile = np.ones((1, 64, 64), np.float32)
        tracemalloc.start()
        for _ in range(len(grid.origins)):
            mosaic.add(tile)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(8192) < 1.5 * peak(1024) + 200_000  # the whole map in float64 would have 32 MiB


def test_a_map_that_does_not_fit_the_tile_is_refused():
    with pytest.raises(ValueError, match="map_width must divide the input's width, 64 px.*got 7"):
        Tiling((64, 64), (8, 7))


# What follows runs a CS-Flow on tiles: a small backbone and a random flow, whitened on a random texture.

TILE = 128


def texture(height, width, seed):
    rng = np.random.default_rng(seed)
    grey = ndimage.gaussian_filter(rng.standard_normal((height, width, 3)), (1.5, 1.5, 0), mode="wrap")
    return np.clip(grey / grey.std() * 30 + 128, 0, 255).astype(np.uint8)


def build(size, state=None):
    config = ArtifactConfig(
        name="tiny",
        backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
        input=InputConfig(height=size[0], width=size[1], resize="tile"),
        hyperparameters={"scales": 2, "whiten_dims": 4, "hidden": 8, "kernels": [3, 3], "head": None},
    )
    detector = registry.build(config)
    assert isinstance(detector, CsFlow)
    if state is not None:
        detector.load_state_dict(state)
    return detector


@pytest.fixture(scope="module")
def detector():
    detector = build((TILE, TILE))
    maps = detector.extract(torch.from_numpy(np.stack([texture(TILE, TILE, seed) for seed in range(24)])))

    class Extracted:
        def read(self, positions):
            return [x[positions] for x in maps]

    detector.fit_whitening(moments_of(Extracted(), torch.arange(24)))
    torch.manual_seed(0)
    for name, parameter in detector.flow.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.uniform_(parameter, -0.1, 0.1)
    detector.fitted = True  # by hand, as it were
    return detector.freeze()


def tiled(detector, image, overlap=0.25):
    tiling = Tiling((TILE, TILE), (detector.config.map_height, detector.config.map_width), overlap)
    grid = tiling.grid(image.shape[:2])
    pixels = np.stack([image[y : y + TILE, x : x + TILE] for y, x in grid.origins])
    gathered = TileScores(grid)
    gathered.add(*(part.numpy() for part in detector.score(torch.from_numpy(pixels))))
    return grid, gathered.result()


def seam_ratio(grid, cells):
    """Mean absolute step between neighbouring columns where a tile begins, ends or fades, over that elsewhere."""
    steps = np.abs(np.diff(cells, axis=1)).mean(axis=0)
    at = np.zeros(len(steps), bool)
    for left, right in zip(grid.columns.origins[1:], grid.columns.origins[:-1] + grid.columns.tile_cells, strict=True):
        at[left - 1 : right] = True
    return steps[at].mean() / steps[~at].mean()


def test_seams_do_not_show_on_an_even_texture(detector):
    scored = [tiled(detector, texture(512, 512, 99 + i)) for i in range(6)]
    assert [len(grid.origins) for grid, _ in scored] == [25] * 6
    ratios = [seam_ratio(grid, found.anomaly_map) for grid, found in scored]
    assert np.mean(ratios) < 1.15, ratios


def test_the_blended_map_is_nearly_that_of_the_whole_image_at_once(detector):
    image = texture(512, 512, 99)
    whole = build((512, 512), detector.state_dict()).freeze().score(torch.from_numpy(image[None])).anomaly_map[0].numpy()
    off = {overlap: np.abs(tiled(detector, image, overlap)[1].anomaly_map - whole) / whole.mean() for overlap in (0, 0.25, 0.5)}
    assert off[0.25].mean() < 0.005 and off[0.25].max() < 0.15, (off[0.25].mean(), off[0.25].max())
    assert off[0.5].mean() < off[0.25].mean() < off[0].mean() / 10


def test_a_defect_on_a_seam_scores_as_one_inside_a_tile(detector):
    ratios, peaks = [], []
    for seed in range(6):
        image = texture(544, 544, seed + 50)
        image[192:224, 192:224] = np.random.default_rng(seed).integers(0, 2, (32, 32, 1)) * 255
        (_, seam), (_, inside) = tiled(detector, image[:512, :512]), tiled(detector, image[32:, 32:])
        ratios.append(seam.score / inside.score)
        peaks.append(seam.anomaly_map[5:, 5:].max() / inside.anomaly_map.max())
    assert abs(np.median(ratios) - 1) < 0.05, ratios
    assert np.abs(np.array(peaks) - 1).max() < 0.05, peaks
