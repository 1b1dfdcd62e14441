"""Averages over covering patches, against loops."""

import pytest
import torch

from models.maps.covering import distribute

SHAPES = [(8, 1, 14, 12), (6, 4, 20, 23), (3, 5, 19, 14), (4, 4, 16, 12)]


@pytest.mark.parametrize(("patch", "stride", "height", "width"), SHAPES)
def test_against_loops(patch, stride, height, width):
    rows, columns = (height - patch) // stride + 1, (width - patch) // stride + 1
    scores = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(0))
    total, counts = torch.zeros(2, height, width).double(), torch.zeros(height, width).double()
    for i in range(rows):
        for j in range(columns):
            here = (slice(stride * i, stride * i + patch), slice(stride * j, stride * j + patch))
            total[:, *here] += scores[:, i, j, None, None]
            counts[here] += 1
    expected = torch.where(counts > 0, total / counts.clamp(min=1), 0)
    torch.testing.assert_close(distribute(scores, patch, stride, height, width).double(), expected, rtol=1e-6, atol=0)


def test_a_score_that_is_not_a_number_stays_where_its_patch_is():
    scores = torch.ones(1, 4, 4)
    scores[0, 0, 0] = torch.nan
    places = distribute(scores, 2, 2, 8, 8)[0]
    assert places[:2, :2].isnan().all() and places.isnan().sum() == 4
