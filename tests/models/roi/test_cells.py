"""Cells that count: what is left of maps, what stands in the others, and that without a region nothing changes."""

import torch

from models.config import InputConfig
from models.maps.grids import resized
from models.roi.cells import Cells, pixels_inside, pooled


def left_half() -> Cells:
    pixels = torch.zeros(8, 8, dtype=torch.bool)
    pixels[:, :4] = True
    return Cells(pixels, (4, 4))


def test_without_a_region_every_map_stays_the_very_same():
    cells, x = Cells(None, (4, 4)), torch.rand(2, 3, 4, 4)
    assert cells.only(x) is x and cells.zeroed(x) is x and cells.silenced(x, 0.5) is x and cells.count == 16
    assert torch.equal(cells.resized(x[:, 0], (7, 9)), resized(x[:, 0], (7, 9)))
    assert pixels_inside(InputConfig()) is None and pooled(None, 4, 2) is None
    assert cells.places(torch.tensor([3, 1])).tolist() == [3, 1] and not cells.state_dict()


def test_only_the_cells_that_count_are_read():
    cells, x = left_half(), torch.arange(16.0).view(1, 1, 4, 4)
    assert cells.count == 8 and cells.only(x).flatten().tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    assert cells.only(x).shape == (1, 1, 8, 1) and cells.places(torch.tensor([0, 7])).tolist() == [0, 13]
    outside = x.clone()
    outside[..., 2:] = float("nan")
    for read in (cells.only, cells.zeroed):
        assert torch.equal(read(x), read(outside))
    assert torch.equal(cells.resized(x[0], (9, 7)), cells.resized(outside[0], (9, 7)))
    assert torch.equal(cells.silenced(x[0], None), cells.silenced(outside[0], None))


def test_a_constant_map_stays_constant_on_another_grid():
    ones = torch.ones(1, 4, 4)
    assert torch.allclose(left_half().resized(ones, (9, 7)), torch.ones(1, 9, 7))


def test_no_cell_outside_lies_above_a_threshold():
    cells, maps = left_half(), torch.rand(2, 4, 4) + 5
    least = maps[:, :, :2].amin((1, 2))
    assert torch.equal(cells.silenced(maps, None)[:, 0, 3], least)
    assert torch.equal(cells.silenced(maps, 9.0)[:, 0, 3], least)
    assert (cells.silenced(maps, -1.5)[:, :, 2:] == -1.5).all()
    assert torch.equal(cells.silenced(maps, -1.5)[:, :, :2], maps[:, :, :2])


def test_a_patch_counts_if_any_of_its_pixels_does():
    pixels = torch.zeros(8, 8, dtype=torch.bool)
    pixels[2, 7] = True
    assert pooled(pixels, patch=4, stride=2).nonzero().tolist() == [[0, 2], [1, 2]]
