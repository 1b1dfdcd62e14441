import pytest
import torch

from models.flows.order import ordered


@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4)])
def test_values_and_gradients_are_those_of_indexing(shape):
    order = torch.tensor([3, 0, 4, 1, 2])
    x = torch.randn(shape, requires_grad=True)
    weights = torch.randn(shape)
    (ours,) = torch.autograd.grad((ordered(x, order) * weights).sum(), x)
    (theirs,) = torch.autograd.grad((x[:, order] * weights).sum(), x)
    assert torch.equal(ordered(x, order), x[:, order]) and torch.equal(ours, theirs)


def test_maps_stay_in_channels_last_memory():
    x = torch.randn(2, 5, 3, 4).to(memory_format=torch.channels_last)
    assert ordered(x, torch.randperm(5)).is_contiguous(memory_format=torch.channels_last)
