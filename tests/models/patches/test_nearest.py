"""The nearest neighbours against all distances in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.patches import nearest as search
from models.patches.nearest import CPU_BLOCK, GROUP, Block, block_of, filled, nearest, searchable, spread

QUERIES, PRODUCTS = CPU_BLOCK


def vectors(rows: int, dims: int, seed: int, offset: float = 0.0) -> torch.Tensor:
    return offset + torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(
    queries=st.integers(1, 2 * QUERIES + 3),
    rows=st.integers(1, 2 * PRODUCTS + 3),
    dims=st.integers(1, 70),
    count=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_against_all_distances_in_double(queries, rows, dims, count, offset, seed):
    count = min(count, rows)
    x, bank = vectors(queries, dims, seed, offset), vectors(rows, dims, seed + 1, offset)
    distances, found = nearest(x, bank, count)
    everything = torch.cdist(x.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist")  # (queries, rows)
    expected = everything.topk(count, dim=1, largest=False).values
    centre = bank.double().mean(0)
    largest = torch.maximum((x - centre).norm(dim=1), (bank - centre).norm(dim=1).max())[:, None]
    bound = 8 * (dims + 4) * 2**-24 * largest**2  # the module's docstring
    rounding = 4 * (dims + 4) * 2**-24 * expected**2
    excess = distances.double() ** 2 - expected**2
    assert (excess >= -rounding).all() and (excess <= bound + rounding).all()
    torch.testing.assert_close(distances.double(), everything.gather(1, found), rtol=1e-5, atol=1e-12)
    assert all(len(set(row)) == count for row in found.tolist())


def test_in_double_it_is_exact():
    x, bank = vectors(300, 64, 0).double(), vectors(2000, 64, 1).double()
    everything = torch.cdist(x, bank, compute_mode="donot_use_mm_for_euclid_dist")
    distances, rows = nearest(x, bank)
    assert torch.equal(rows[:, 0], everything.argmin(1))
    torch.testing.assert_close(distances[:, 0], everything.amin(1), rtol=1e-14, atol=0)


def test_a_row_of_the_bank_has_distance_zero_and_no_gradient():
    bank = vectors(5 * GROUP + 1, 64, 0, offset=3.0)
    queries = bank[[7, len(bank) - 1]].clone().requires_grad_()
    distances, rows = nearest(queries, bank)
    assert rows[:, 0].tolist() == [7, len(bank) - 1]
    assert (distances == 0).all()
    distances.sum().backward()
    assert queries.grad is not None and (queries.grad == 0).all()


def test_the_gradient_points_away_from_the_neighbour():
    bank = vectors(100, 8, 0).double()
    queries = vectors(4, 8, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: nearest(x, bank, 2)[0], queries)


def test_a_query_that_is_not_finite_has_no_distance_and_hurts_no_other():
    queries, bank = vectors(3, 64, 0), vectors(100, 64, 1)
    clean, _ = nearest(queries, bank)
    queries[1, 5] = torch.nan
    distances, _ = nearest(queries, bank)
    assert distances[1].isnan() and torch.equal(distances[[0, 2]], clean[[0, 2]])


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(ValueError, match="count must be at most the bank's rows, 3; got 4"):
        nearest(vectors(2, 4, 0), vectors(3, 4, 1), 4)


def test_spread_takes_the_farthest_next():
    points = vectors(200, 6, 0)
    chosen = spread(points, 20, seed=5)
    assert len(set(chosen.tolist())) == 20
    assert torch.equal(chosen, spread(points, 20, seed=5)) and not torch.equal(chosen, spread(points, 20, seed=6))
    for i in range(1, 20):
        far = torch.cdist(points, points[chosen[:i]]).amin(1)
        torch.testing.assert_close(far[chosen[i]], far.max())


def test_spread_in_parts_chooses_the_same_and_of_some_parts_the_first():
    points = vectors(200, 6, 0)
    chosen = spread(points, 20, seed=5)
    assert torch.equal(spread(points, 20, 5, batches=lambda numbers: numbers.split(7)), chosen)
    assert torch.equal(spread(points, 20, 5, batches=lambda numbers: numbers.split(7)[:2]), chosen[:14])


def test_spread_over_equal_vectors_takes_each_once():
    assert sorted(spread(torch.ones(9, 4), 20, seed=0).tolist()) == list(range(9))


def test_a_bank_is_filled_by_repeating():
    few = vectors(3, 4, 0)
    assert torch.equal(filled(few, 7), few[[0, 1, 2, 0, 1, 2, 0]])
    assert torch.equal(filled(few, 2), few[:2])
    with pytest.raises(ValueError, match="vectors must be at least 1"):
        filled(few[:0], 2)


def test_a_prepared_bank_gives_the_same_bits():
    x, bank = vectors(700, 16, 0), vectors(2100, 16, 1)
    for ours, theirs in zip(nearest(x, searchable(bank), 2), nearest(x, bank, 2), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("block", [Block(1, GROUP), Block(64, 2048), Block(4096, 1 << 17)])
def test_the_size_of_the_products_does_not_matter(block, monkeypatch):
    x, bank = vectors(300, 16, 0), vectors(1500, 16, 1)
    expected = nearest(x, bank, 2)
    monkeypatch.setattr(search, "block_of", lambda device: block)
    for ours, theirs in zip(nearest(x, bank, 2), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_gpu_multiplies_an_image_with_the_largest_default_bank_at_once_within_half_a_gibibyte():
    queries, bank_rows = block_of("cuda")
    assert queries >= 13 * 13 and bank_rows >= 100_000 and bank_rows % GROUP == 0
    assert 4 * queries * bank_rows <= 512 * 2**20
