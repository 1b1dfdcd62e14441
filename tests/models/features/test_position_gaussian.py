"""One pass over any batches gives the two-pass float64 moments; memory does not grow; distances are Mahalanobis'."""

import tracemalloc
from collections.abc import Sequence

import psutil
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.features.position_gaussian import PositionGaussian, PositionMoments, inverse_factors, mahalanobis, position_blocks


def drawn(count: int, channels: int, grid: tuple[int, int], seed: int, offset: float = 3.0) -> Tensor:
    """(N, d, h, w) float32 with another mean and covariance at every position; standard deviations from 0.1 to 10."""
    generator = torch.Generator().manual_seed(seed)
    positions = grid[0] * grid[1]
    scales = torch.logspace(-1, 1, channels)
    mix = torch.eye(channels) + 0.3 * torch.randn(positions, channels, channels, generator=generator) / channels**0.5
    rows = torch.randn(positions, count, channels, generator=generator) @ mix * scales
    rows = rows + offset * torch.randn(positions, 1, channels, generator=generator)
    return rows.permute(1, 2, 0).reshape(count, channels, *grid).contiguous()  # (N, d, h, w)


def accumulated(batches: Sequence[Tensor]) -> PositionMoments:
    _, channels, rows, columns = batches[0].shape
    moments = PositionMoments(rows * columns, channels)
    for batch in batches:
        moments.update(batch)
    return moments


def two_pass(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (P, d) and unbiased covariance (P, d, d) in float64."""
    rows = maps.double().flatten(2).permute(2, 0, 1)  # (P, N, d)
    deviations = rows - rows.mean(1, keepdim=True)
    return rows.mean(1), deviations.mT @ deviations / (len(maps) - 1)


def errors(moments: PositionMoments, maps: Tensor) -> tuple[float, float]:
    """Largest error of a mean, over its standard deviation, and of a covariance, over both standard deviations."""
    mean, covariance = two_pass(maps)
    std = covariance.diagonal(dim1=1, dim2=2).sqrt()  # (P, d)
    scaled = (moments.covariance() - covariance) / (std[:, :, None] * std[:, None])
    return float(((moments.mean - mean) / std).abs().max()), float(scaled.abs().max())


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1),
    channels=st.integers(1, 9),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    offset=st.sampled_from([0.0, 3.0, 1e3]),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_batches_give_the_two_pass_moments(sizes, channels, rows, columns, offset, seed):
    maps = drawn(sum(sizes), channels, (rows, columns), seed, offset)
    moments = accumulated(maps.split(sizes))
    assert moments.count == len(maps)
    of_mean, of_covariance = errors(moments, maps)
    assert of_mean < 1e-10 and of_covariance < 1e-5


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_many_images_add_no_error(offset):
    """Means 10,000 to a million standard deviations from zero, where sums of squares in float32 would hold nothing."""
    maps = drawn(5000, 6, (2, 3), 1, offset)
    for size in (1, 16, 32, 5000):
        of_mean, of_covariance = errors(accumulated(maps.split(size)), maps)
        assert of_mean < 1e-8 and of_covariance < 2e-6


def test_sorted_images_add_no_error():
    """Every batch has another mean, so the covariance comes from the differences of the means."""
    maps = drawn(640, 5, (2, 2), 2)
    maps = maps[maps[:, 4].sum((1, 2)).argsort()]
    assert errors(accumulated(maps.split(16)), maps)[1] < 1e-5


@pytest.mark.parametrize("channels", [40, 200])
def test_positions_in_several_blocks(channels):
    grid = (40, 20) if channels == 40 else (6, 5)
    assert len(position_blocks(grid[0] * grid[1], channels)) > 1
    maps = drawn(50, channels, grid, 3)
    assert errors(accumulated(maps.split(20)), maps)[1] < 1e-5


def test_memory_layout_and_type_do_not_matter():
    maps = drawn(20, 5, (3, 4), 4)
    moments = accumulated([maps])
    for other in (maps.contiguous(memory_format=torch.channels_last), maps.double()):
        assert torch.equal(accumulated([other]).scatter, moments.scatter)


def test_memory_is_bounded_for_100_000_images():
    images, batch, channels, grid = 100_000, 50, 8, (4, 4)
    moments = PositionMoments(grid[0] * grid[1], channels)
    held = [(x.data_ptr(), x.shape) for x in (moments.mean, moments.scatter)]
    pool = drawn(20 * batch, channels, grid, 5).split(batch)
    live: list[int] = []
    resident: list[int] = []
    process = psutil.Process()
    tracemalloc.start()
    for i in range(images // batch):
        moments.update(pool[i % len(pool)])
        if i in (100, images // batch - 1):
            live.append(tracemalloc.get_traced_memory()[0])
            resident.append(process.memory_info().rss)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert moments.count == images
    assert [(x.data_ptr(), x.shape) for x in (moments.mean, moments.scatter)] == held  # torch's memory is not traced
    tensors = [value for value in vars(moments).values() if isinstance(value, Tensor)]
    assert len(tensors) == 2 and all(isinstance(value, Tensor | int | float) for value in vars(moments).values())
    assert live[1] - live[0] < 100_000 and peak < 1_000_000
    assert resident[1] - resident[0] < 25e6 < images * pool[0][0].nbytes / 2
    # The same images again and again: their covariance, but for N instead of N - 1.
    again = torch.cat(pool)
    expected = two_pass(again)[1] * (len(again) - 1) / len(again) * images / (images - 1)
    torch.testing.assert_close(moments.covariance(), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 12), count=st.integers(2, 30), seed=st.integers(0, 2**31 - 1))
@example(channels=11, count=2, seed=0)
def test_distances_are_mahalanobis(channels, count, seed):
    """Also with fewer images than channels: the covariance is singular without the regularisation, and what float32
    rounds off it counts as often as it is larger than that."""
    maps, regularisation = drawn(count, channels, (3, 2), seed), 0.01
    gaussian = PositionGaussian(6, channels)
    gaussian.fit(accumulated(maps.split(4)), regularisation)
    images = drawn(5, channels, (3, 2), seed + 1)
    mean, covariance = two_pass(maps)
    rows = images.double().flatten(2).permute(2, 0, 1) - mean[:, None]  # (P, B, d)
    solved = torch.linalg.solve(covariance + regularisation * torch.eye(channels), rows.mT)  # (P, d, B)
    expected = (rows.mT * solved).sum(1).sqrt().T.reshape(5, 3, 2)  # (B, h, w)
    condition = float(torch.linalg.matrix_norm(covariance, 2).max()) / regularisation
    relative = 1e-4 + condition * torch.finfo(torch.float32).eps
    torch.testing.assert_close(mahalanobis(gaussian(images)).double(), expected, rtol=relative, atol=1e-4)


def test_whitened_training_images_have_covariance_one():
    maps = drawn(400, 6, (2, 2), 6)
    gaussian = PositionGaussian(4, 6)
    gaussian.fit(accumulated([maps]), 1e-9)
    mean, covariance = two_pass(gaussian(maps))
    assert mean.abs().max() < 1e-4
    torch.testing.assert_close(covariance, torch.eye(6, dtype=torch.float64).expand(4, 6, 6), rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 6, 7, 9, 33, 64, 100])
def test_an_image_is_scored_alike_in_every_slot(channels):
    """Bit for bit, with a fixed number of slots, whatever their number and the memory layout."""
    gaussian = PositionGaussian(12, channels)
    gaussian.fit(accumulated([drawn(30, channels, (4, 3), 7)]), 0.01)
    gaussian.freeze()
    for slots in (1, 2, 5, 7, 16, 17):
        image, others = drawn(1, channels, (4, 3), 8), drawn(slots, channels, (4, 3), 9)
        results = []
        for slot in range(slots):
            batch = others.clone()
            batch[slot] = image[0]
            for layout in (torch.contiguous_format, torch.channels_last):
                results.append(gaussian(batch.contiguous(memory_format=layout))[slot])
        assert all(torch.equal(results[0], other) for other in results)
        distances = [mahalanobis(x[None]) for x in results]
        assert all(torch.equal(distances[0], other) for other in distances)


def test_the_stored_triangle_is_the_factor():
    gaussian = PositionGaussian(4, 5)
    assert torch.equal(gaussian.matrices(), torch.eye(5).expand(4, 5, 5))
    moments = accumulated([drawn(30, 5, (2, 2), 10)])
    gaussian.fit(moments, 0.1)
    assert torch.equal(gaussian.matrices(), inverse_factors(moments.covariance(), 0.1).float().tril())
    assert {name: tuple(x.shape) for name, x in gaussian.state_dict().items()} == {"mean": (4, 5), "factor": (4, 15)}


def test_new_statistics_replace_the_frozen_matrices():
    first, second = PositionGaussian(4, 5), PositionGaussian(4, 5)
    images = drawn(3, 5, (2, 2), 11)
    first.fit(accumulated([drawn(30, 5, (2, 2), 12)]), 0.1)
    unfrozen = first(images)
    first.freeze()
    second.freeze()
    assert torch.equal(first(images), unfrozen)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(images), unfrozen)
    first.fit(accumulated([drawn(30, 5, (2, 2), 13)]), 0.1)
    assert not torch.equal(first(images), unfrozen)


def test_bad_values_are_refused():
    moments = PositionMoments(4, 2)
    with pytest.raises(ValueError, match="features must be finite"):
        moments.update(torch.full((1, 2, 2, 2), float("nan")))
    moments.update(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match="at least 2; got 1"):
        moments.covariance()
