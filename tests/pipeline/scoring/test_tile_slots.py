"""Tiles of several images in one batch: a tile's slot follows from its image's place and its own number alone."""

import numpy as np
import pytest

from models.maps.tiling import Tiling
from pipeline.decode.tiles import TileBatch
from pipeline.scoring.tile_slots import OPEN_BATCHES, first_slot, in_slots

TILING = Tiling((4, 4), (4, 4), 0.0)


def parts(counts, slots, taken=lambda tiles: None):
    """Images in rows of so many tiles; each tile holds its image and its number. None: an image that cannot be read."""
    for position, count in enumerate(counts):
        if count is not None:
            tiles = np.zeros((count, 4, 4, 3), np.uint8)
            tiles[..., 0], tiles[..., 1] = position, np.arange(count)[:, None, None]
            for first in range(0, count, slots):
                taken(len(tiles[first : first + slots]))
                yield TileBatch(position, TILING.grid((4, 4 * count)), tiles[first : first + slots])


def placed(counts, slots, **options):
    """(position, number) to slot, in the order in which the tiles come to be joined."""
    found = {}
    for batch in in_slots(parts(counts, slots, **options), slots):
        assert batch.pixels.shape == (slots, 4, 4, 3) and len(batch.tiles) == slots
        assert not batch.pixels[[slot for slot in range(slots) if slot not in batch.used]].any()
        for first, of_image in batch.images():
            for number, slot in enumerate(of_image, first.number):
                assert batch.pixels[slot, 0, 0, :2].tolist() == [first.position, number]
                assert (first.position, number) not in found
                found[first.position, number] = slot
    return found


def drawn(seed, images=40):
    return np.random.default_rng(seed).integers(1, 60, images).tolist()


@pytest.mark.parametrize("slots", [1, 2, 7, 16])
@pytest.mark.parametrize("seed", range(3))
def test_every_tile_has_one_place_and_those_of_an_image_come_in_order(slots, seed):
    counts = drawn(seed)
    found = placed(counts, slots)
    for position, count in enumerate(counts):
        numbers = [number for at, number in found if at == position]
        assert numbers == list(range(count))
        assert [found[position, number] for number in numbers] == [(found[position, 0] + n) % slots for n in numbers]


@pytest.mark.parametrize("slots", [7, 16])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_that_cannot_be_read_or_ends_early_moves_no_other(slots, seed):
    counts = drawn(seed)
    whole = placed(counts, slots)
    damaged = [
        None if position % 5 == 0 else count // 2 + 1 if position % 7 == 0 else count for position, count in enumerate(counts)
    ]
    found = placed(damaged, slots)
    assert found == {place: whole[place] for place in found} and len(found) < len(whole)


@pytest.mark.parametrize(
    ("tiles", "least", "alone"), [(6, 0.95, 0.375), (1, 0.8, 1 / 16), (17, 0.88, 17 / 32), (130, 0.95, 130 / 144)]
)
def test_few_slots_are_blank(tiles, least, alone):
    """least: share of the slots of 64 images that hold a tile.  alone: of batches that hold one image each."""
    batches = list(in_slots(parts([tiles] * 64, 16), 16))
    share = 64 * tiles / (16 * len(batches))
    assert least <= share <= 1 and share > alone


def test_at_most_so_many_batches_wait():
    slots, taken, most = 16, [], 0
    for batch in in_slots(parts(drawn(1), slots, taken=taken.append), slots):
        most = max(most, sum(taken))
        taken.append(-len(batch.used))
    assert sum(taken) == 0 and most <= (OPEN_BATCHES + 1) * slots


def test_first_slots_are_pinned():
    """They decide bits on a device whose arithmetic depends on the slot: to change them is to raise SCORING_VERSION."""
    assert [first_slot(position, 16) for position in range(10)] == [0, 9, 3, 13, 7, 1, 11, 5, 15, 8]
    assert [first_slot(position, 1) for position in range(3)] == [0, 0, 0]
