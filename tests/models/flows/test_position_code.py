"""The position code tells every cell from every other, by its column in the first half and its row in the second."""

import math

import pytest
import torch

from models.flows.position_code import position_code


def test_channels_of_one_cell():
    code = position_code(8, 5, 7)
    assert code.shape == (8, 5, 7) and code.dtype == torch.float32
    slow = 10000 ** (-2 / 4)
    column, row = 6, 3
    expected = [f(index * rate) for index in (column, row) for rate in (1.0, slow) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code[:, row, column], torch.tensor(expected))


def test_every_cell_has_its_own():
    cells = position_code(16, 24, 32).flatten(1).T  # (cells, channels)
    distances = torch.cdist(cells, cells) + torch.eye(len(cells))
    assert distances.min() > 0.1


def test_a_code_does_not_depend_on_the_size_of_the_grid():
    assert torch.equal(position_code(12, 9, 4)[:, :3, :2], position_code(12, 3, 2))


@pytest.mark.parametrize("channels", [0, 2, 6, 130])
def test_channels_that_do_not_split(channels):
    with pytest.raises(ValueError, match=f"multiple of 4; got {channels}"):
        position_code(channels, 4, 4)
