import pytest
import torch

from models.maps.grids import resized


def linear(cells: torch.Tensor, size: int) -> torch.Tensor:
    """(B, h, w) to (B, size, w) by weights written out: centre of row i of the result at (i + 1/2) h / size - 1/2."""
    height = cells.shape[1]
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) * height / size - 0.5).clamp(0, height - 1)
    low = at.floor().long().clamp(max=max(0, height - 2))
    share = (at - low)[:, None]
    return cells[:, low] * (1 - share) + cells[:, (low + 1).clamp(max=height - 1)] * share


@pytest.mark.parametrize("size", [(12, 20), (3, 20), (7, 5), (6, 9)])
def test_values_lie_between_the_centres_of_cells(size):
    cells = torch.randn(2, 6, 9, dtype=torch.float64)
    expected = linear(linear(cells, size[0]).mT, size[1]).mT  # (B, H, W)
    torch.testing.assert_close(resized(cells, size), expected)


def test_a_map_of_the_right_size_stays_as_it_is():
    cells = torch.tensor([[[float("inf"), 1.0]]])
    assert resized(cells, (1, 2)) is cells
    assert resized(cells, torch.Size((1, 2))) is cells
