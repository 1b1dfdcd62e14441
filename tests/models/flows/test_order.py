import pytest
import torch

from models.flows.cross_scale import CrossScaleFlow
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


@pytest.mark.parametrize("largest", [1e3, 1e5, 1e7])
def test_a_strange_state_has_latents_in_fp16(largest):
    flow = CrossScaleFlow(channels=8, scales=2, hidden=16, kernels=(3, 3, 3))
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "gamma" in name:
                parameter.fill_(1.0)
    flow.set_conv_dtype(torch.float16)
    flow.freeze()
    maps = [largest * torch.randn(2, 8, side, side) for side in (8, 4)]
    with torch.inference_mode():
        assert all(torch.isfinite(z).all() for z in flow.latents(maps))
