"""Scoring by tiles: fixed slots, one batch of them at a time, whatever the size of the image."""

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
import torch
from at_once import AtOnce
from tiny_model import tiny_config, tiny_fitted

from models import artifact, registry
from models.config import InputConfig
from models.detector import Scored
from models.maps.tiling import Tiling
from pipeline.decode.tiles import TileBatch
from pipeline.scoring.lanes import Lanes
from pipeline.scoring.scorer import Explain, Scorer, open_scorer

SIDE, SLOTS = 32, 4
TILING = Tiling((SIDE, SIDE), (4, 4), 0.25)


class Counting:
    """A detector whose score is a tile's mean and whose map is its cells' means; counts the images that it is given."""

    config = tiny_config(
        batch_size=SLOTS,
        map_threshold=100.0,
        map_height=4,
        map_width=4,
        input=InputConfig(height=SIDE, width=SIDE, resize="tile", overlap=0.25),
    )

    def __init__(self, slow=False):
        self.seen, self.slow = [], slow

    def score(self, images):
        self.seen.append(tuple(images.shape))
        if self.slow:
            time.sleep(0.02 * int(images[0, 0, 0, 0]) / 100)
        cells = images.float().mean(3).unflatten(2, (4, -1)).unflatten(1, (4, -1)).mean((2, 4))  # (B, 4, 4)
        return Scored(cells.mean((1, 2)), cells, torch.zeros(len(images), 32, dtype=torch.float16))


@pytest.fixture(params=[1, 3])
def threads(request):
    return request.param


@pytest.fixture
def scorer(threads):
    return Scorer(Counting(), "cpu", threads)


def batches(position, height, width, level=lambda top, left: 10):
    grid = TILING.grid((height, width))
    for start in range(0, len(grid.origins), SLOTS):
        part = grid.origins[start : start + SLOTS]
        pixels = np.stack([np.full((SIDE, SIDE, 3), level(top, left), np.uint8) for top, left in part])
        yield TileBatch(position, grid, pixels)


def test_every_image_gets_its_own_score_and_map(scorer):
    def both():
        yield from batches(0, 100, 70, lambda top, left: 200 if (top, left) == (48, 24) else 10)
        yield from batches(2, 20, 20, lambda top, left: 30)

    found = scorer.by_tiles(both(), 3)
    assert found.score.tolist() == [200, 0, 30]
    assert [cells.shape for cells in found.anomaly_map] == [(12, 8), (0, 0), (2, 2)]
    assert found.anomaly_map[0].max() == pytest.approx(200) and found.anomaly_map[0].min() == 10
    assert set(scorer._detector.seen) == {(SLOTS, SIDE, SIDE, 3)}
    assert scorer.finite(found).all() and found.embedding.shape == (3, 32)


def test_an_image_whose_tiles_end_early_has_no_map(scorer):
    parts = [next(batches(0, 100, 70)), *batches(1, 32, 32)]
    found = scorer.by_tiles(iter(parts), 2)
    assert found.anomaly_map[0].size == 0 and found.score.tolist() == [0, 10]


class BySlot(Counting):
    """Its arithmetic depends on the slot, as that of a GPU's kernels may."""

    def score(self, images):
        found = super().score(images)
        slots = torch.arange(len(images)) / 7
        return Scored(found.score + slots, found.anomaly_map + slots[:, None, None], found.embedding)


def test_no_image_changes_a_bit_when_others_cannot_be_read(threads):
    """Also where arithmetic depends on the slot, and whatever is missing: an image, or the last tiles of one."""
    sizes = [(40, 60), (100, 70), (32, 32), (64, 90), (40, 60), (200, 130), (30, 30), (90, 64)]
    parts = [list(batches(position, *size, lambda top, left: (top + 3 * left) % 251)) for position, size in enumerate(sizes)]
    whole = Scorer(BySlot(), "cpu", threads).by_tiles((part for image in parts for part in image), len(sizes))
    for missing in ([0], [2, 5], [1, 3, 4, 6]):
        rest = [part for position, image in enumerate(parts) if position not in missing for part in image]
        found = Scorer(BySlot(), "cpu", threads).by_tiles(iter(rest), len(sizes))
        for position in set(range(len(sizes))) - set(missing):
            assert found.score[position] == whole.score[position]
            assert found.anomaly_map[position].tobytes() == whole.anomaly_map[position].tobytes()
    early = [part for image in parts for part in (image[:1] if len(image) > 1 else image)]
    found = Scorer(BySlot(), "cpu", threads).by_tiles(iter(early), len(sizes))
    assert [found.score[position] for position in (2, 6)] == [whole.score[position] for position in (2, 6)]


def test_images_that_share_batches_get_the_bits_they_get_alone(tmp_path):
    size = InputConfig(height=64, width=96, resize="tile")
    config = tiny_config(precision="bf16", batch_size=8, input=size)
    artifact.save(tmp_path / "model", config, tiny_fitted(config), "# card\n")
    scorer, rng = open_scorer(tmp_path / "model", "cpu", 2), np.random.default_rng(0)

    def image(position, height, width):
        grid = scorer.tiling.grid((height, width))
        tiles = rng.integers(0, 255, (len(grid.origins), 64, 96, 3), np.uint8)
        return [TileBatch(position, grid, tiles[first : first + 8]) for first in range(0, len(tiles), 8)]

    images = [image(position, *size) for position, size in enumerate([(100, 150), (64, 96), (300, 200), (90, 400)])]
    together = scorer.by_tiles((part for parts in images for part in parts), len(images))
    assert len(set(together.score.tolist())) == len(images)
    for position, parts in enumerate(images):
        alone = scorer.by_tiles((part._replace(position=0) for part in parts), 1)
        assert alone.score.tobytes() == together.score[position].tobytes()
        assert alone.anomaly_map[0].tobytes() == together.anomaly_map[position].tobytes()
        assert alone.embedding[0].tobytes() == together.embedding[position].tobytes()


def test_blank_slots_are_not_explained(threads):
    """Explaining takes a few passes forward and back, and a model may well flag a blank tile."""
    given = []

    def explain(images, results):
        given.append(len(images))
        return {}

    units = (part for position in range(3) for part in batches(position, 40, 60))
    Scorer(Counting(), "cpu", threads, Explain("gradient", explain)).by_tiles(units, 3)
    assert sum(given) == 3 * len(TILING.grid((40, 60)).origins)


def test_memory_does_not_grow_with_the_image(scorer):
    def peak(side):
        tracemalloc.start()
        scorer.by_tiles(batches(0, side, side), 1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(1600) < peak(800) + 600_000  # its pixels have 5.8 MB more, its stored map in float64 and float32 0.4 MB


def test_batches_of_two_callers_take_turns(threads):
    """Each gets its own results in its own order, whichever batch is done first."""
    scorer = Scorer(Counting(slow=True), "cpu", threads)
    units = [
        np.repeat(np.arange(first, first + 30, dtype=np.uint8), SIDE * SIDE * 3).reshape(30, SIDE, SIDE, 3)
        for first in (0, 100)
    ]
    with ThreadPoolExecutor(2) as callers:
        found = list(callers.map(scorer, units))
    assert [unit.score.tolist() for unit in found] == [list(range(30)), list(range(100, 130))]
    assert all(0 < unit.device_s and 0 < unit.copy_s for unit in found)


def test_threads_change_no_bit(tmp_path):
    config = tiny_config(precision="bf16", batch_size=4)
    artifact.save(tmp_path / "model", config, registry.build(config), "# card\n")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8)
    one, three = (open_scorer(tmp_path / "model", "cpu", threads) for threads in (1, 3))
    with ThreadPoolExecutor(2) as callers:
        found = [one(pixels), *callers.map(three, [pixels, pixels])]
    for unit in found[1:]:
        assert unit.score.tobytes() == found[0].score.tobytes() and unit.embedding.tobytes() == found[0].embedding.tobytes()
        assert np.stack(unit.anomaly_map).tobytes() == np.stack(found[0].anomaly_map).tobytes()


def explaining(above=100.0):
    """Explains the tiles that have a cell above a level by their own cells."""

    def explain(images, results):
        flagged = (results.anomaly_map > above).any((1, 2)).nonzero()[:, 0]
        return {position: results.anomaly_map[position].numpy() for position in flagged.tolist()}

    return Explain("gradient", explain)


def test_flagged_images_are_explained_and_no_others(threads):
    pixels = np.full((6, SIDE, SIDE, 3), 10, np.uint8)
    pixels[1, :8, :8], pixels[5, 24:, 24:] = 200, 250  # one cell each; 5 is of the second batch
    found = Scorer(Counting(), "cpu", threads, explaining())(pixels)
    assert list(found.explanations) == [1, 5]
    for position, cells in found.explanations.items():
        assert cells.tolist() == found.anomaly_map[position].tolist()


def test_an_explanation_that_is_not_finite_is_left_out():
    broken = Explain(
        "gradient", lambda images, results: {0: np.full((4, 4), np.nan, np.float32), 1: np.zeros((4, 4), np.float32)}
    )
    found = Scorer(Counting(), "cpu", 1, broken)(np.zeros((2, SIDE, SIDE, 3), np.uint8))
    assert list(found.explanations) == [1]


def without_memory(in_batches):
    """Explains as `explaining` does, but has no memory in these calls, counted from 0."""
    calls = count()

    def explain(images, results):
        if next(calls) in in_batches:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return explaining().of(images, results)

    return Explain("gradient", explain)


def test_images_whose_explanations_do_not_fit_keep_their_scores(caplog):
    pixels = np.full((3 * SLOTS, SIDE, SIDE, 3), 200, np.uint8)
    found = Scorer(Counting(), "cpu", 1, without_memory({1, 2, 3, 4}))(pixels)  # of the second and third batch, twice each
    assert list(found.explanations) == list(range(SLOTS))
    assert found.score.tobytes() == Scorer(Counting(), "cpu", 1)(pixels).score.tobytes()
    (record,) = caplog.records
    assert "stay without an explanation" in record.message and "did not fit twice" in record.message
    assert len(Scorer(Counting(), "cpu", 1, without_memory({1}))(pixels).explanations) == 3 * SLOTS, "it is tried again"


def test_a_tiled_image_is_not_explained_in_part():
    def parts():
        return batches(0, 100, 70, lambda top, left: 200)

    tiles = len(TILING.grid((100, 70)).origins)
    whole = Scorer(Counting(), "cpu", 1, explaining()).by_tiles(parts(), 1)
    assert tiles > SLOTS and list(whole.explanations) == [0]
    found = Scorer(Counting(), "cpu", 1, without_memory({0, 1})).by_tiles(parts(), 1)
    assert found.explanations == {} and found.score.tobytes() == whole.score.tobytes()


def test_a_gpu_explains_in_its_turn(monkeypatch):
    """Lanes of a CPU stand in for those of a GPU: never two of its computations at once."""
    alone = AtOnce()

    class Watched(Counting):
        def score(self, images):
            alone()
            return super().score(images)

    def explain(images, results):
        alone()
        return {}

    def lanes_in_turn(compute, shape, device, _count, _in_turn, idle, watch):
        return Lanes(compute, shape, device, 3, True, idle, watch)

    monkeypatch.setattr("pipeline.scoring.scorer.Lanes", lanes_in_turn)
    Scorer(Watched(), "cpu", 3, Explain("gradient", explain))(np.zeros((6 * SLOTS, SIDE, SIDE, 3), np.uint8))
    assert len(alone.most) == 12 and set(alone.most) == {1}


def test_an_embedding_that_is_not_finite_is_an_error():
    scorer = Scorer(Counting(), "cpu", 1)
    found = scorer(np.zeros((3, SIDE, SIDE, 3), np.uint8))
    found.embedding[1, 31] = np.inf
    assert scorer.finite(found).tolist() == [True, False, True]


def test_of_a_tiled_image_the_flagged_tiles_are_explained(scorer, threads):
    def both():
        yield from batches(0, 100, 70, lambda top, left: 200 if (top, left) == (48, 24) else 10)
        yield from batches(1, 100, 70)

    plain = scorer.by_tiles(both(), 2)
    found = Scorer(Counting(), "cpu", threads, explaining()).by_tiles(both(), 2)
    assert [cells.tolist() for cells in found.anomaly_map] == [cells.tolist() for cells in plain.anomaly_map]
    assert list(found.explanations) == [0]
    cells = found.explanations[0]
    assert cells.shape == found.anomaly_map[0].shape and cells.max() == pytest.approx(200)
    assert cells[0, 0] == 0, "of another tile"
    assert Scorer(Counting(), "cpu", threads, explaining(200.0)).by_tiles(both(), 2).explanations == {}


def test_an_artifact_says_how_it_is_cut(tmp_path):
    config = tiny_config(input=InputConfig(height=64, width=96, resize="tile", overlap=0.5))
    detector = registry.build(config)
    artifact.save(tmp_path / "model", config, detector, "")
    assert open_scorer(tmp_path / "model", "cpu").tiling == Tiling((64, 96), (8, 12), 0.5)
    assert open_scorer(tmp_path / "model", "cpu", explain="gradient").explain is None, "without a threshold nothing is flagged"
    squashed = tiny_config()
    artifact.save(tmp_path / "other", squashed, registry.build(squashed), "")
    assert open_scorer(tmp_path / "other", "cpu").tiling is None
