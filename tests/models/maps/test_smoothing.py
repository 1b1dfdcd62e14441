import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from models.maps.smoothing import enlarge_and_smooth, enlarging_matrix, gaussian_kernel, smoothing_matrix


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(1, 5), (7, 31), (64, 40)])
def test_smoothing_is_scipys_filter(shape, sigma):
    """Also where the kernel is wider than the map."""
    maps = np.random.default_rng(0).normal(size=(2, *shape))
    expected = np.stack([gaussian_filter(x, sigma) for x in maps])
    rows, columns = (smoothing_matrix(size, sigma) for size in shape)
    np.testing.assert_allclose(enlarge_and_smooth(torch.from_numpy(maps), rows, columns), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(5, 9), (20, 36), (13, 11)])
def test_enlarging_is_bilinear(size):
    maps = torch.randn(3, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)
    rows, columns = enlarging_matrix(5, size[0]), enlarging_matrix(9, size[1])
    torch.testing.assert_close(enlarge_and_smooth(maps, rows, columns), expected, rtol=0, atol=1e-12)


def test_a_constant_map_stays_as_it_is():
    for matrix in (smoothing_matrix(6, 4.0), enlarging_matrix(6, 15), smoothing_matrix(6, 0.0)):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    assert torch.equal(smoothing_matrix(6, 0.0), torch.eye(6, dtype=torch.float64))


def test_the_kernel_ends_at_four_standard_deviations():
    assert [len(gaussian_kernel(sigma)) for sigma in (0.1, 1.0, 4.0)] == [1, 9, 33]


@pytest.mark.parametrize("shape", [(37, 10, 53, 14), (64, 16, 96, 24)])
def test_an_image_is_smoothed_alike_in_every_slot(shape):
    rows, columns = torch.randn(shape[:2]), torch.randn(shape[2:])
    for slots in (1, 3, 5, 16):
        maps, results = torch.randn(slots, shape[1], shape[3]), []
        for slot in range(slots):
            results.append(enlarge_and_smooth(maps.roll(slot, 0), rows, columns)[slot])
        assert all(torch.equal(results[0], other) for other in results)
