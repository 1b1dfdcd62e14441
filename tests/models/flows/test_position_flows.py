"""CFLOW's head reads every cell by itself, with its position."""

import copy

import pytest
import torch
import torch.nn.functional as F

from models.flows.all_in_one import map_flow, row_flow
from models.flows.position_flows import PositionFlows, log_prob_per_dim, sigmoid_loss

CHANNELS, GRIDS, POSITION_CHANNELS = (7, 10), [(4, 6), (2, 3)], 8


def make_flows(dtype: torch.dtype = torch.float32) -> PositionFlows:
    flows = PositionFlows(CHANNELS, GRIDS, POSITION_CHANNELS, 3, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    for flow in flows.flows:
        for block in flow.blocks:
            torch.nn.init.normal_(block.subnet.leave.weight)
    return flows.to(dtype)


def make_rows(batch: int = 3, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, h * w, c, generator=generator).to(dtype) for (h, w), c in zip(GRIDS, CHANNELS, strict=True)]


def concatenated(subnet, inputs: torch.Tensor) -> torch.Tensor:
    """A subnet over inputs that hold the condition, as the original computes it."""
    return subnet.leave(F.relu(subnet.enter(inputs)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_a_shared_condition_is_one_repeated_and_concatenated(dtype, tolerance):
    flow = row_flow(7, 4, 1, torch.Generator().manual_seed(0)).to(dtype)
    rows, condition = torch.randn(15, 7, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    subnet = flow.blocks[0].subnet
    repeated = condition.repeat(3, 1)  # (15, P)
    expected = concatenated(subnet, torch.cat([rows[:, :4], repeated], 1))
    torch.testing.assert_close(subnet(rows[:, :4], condition), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(flow.latents(rows, condition), flow.latents(rows, repeated), rtol=0, atol=10 * tolerance)


def test_a_shared_condition_of_maps():
    block = map_flow(10, (3,), 1.0, torch.Generator().manual_seed(0)).blocks[0]
    inputs, condition = torch.randn(6, 3, 5, 4), torch.randn(1, 2, 5, 4)
    expected = concatenated(block.subnet, torch.cat([inputs, condition.expand(6, -1, -1, -1)], 1))
    torch.testing.assert_close(block.subnet(inputs, condition), expected, rtol=0, atol=1e-5)


def test_log_probs_are_those_of_every_cell_alone():
    flows, rows = make_flows(torch.float64), make_rows(dtype=torch.float64)
    together = flows(rows)
    for level, (grid, log_probs) in enumerate(zip(GRIDS, together, strict=True)):
        assert log_probs.shape == (3, grid[0] * grid[1])
        for image, cell in ((0, 0), (2, 5)):
            row, code = rows[level][image, cell][None], flows.codes()[level][cell][None]
            alone = log_prob_per_dim(*flows.flows[level](row, code))
            torch.testing.assert_close(log_probs[image, cell], alone[0], rtol=1e-12, atol=0)


def test_some_of_the_cells():
    flows, rows = make_flows(torch.float64), make_rows(dtype=torch.float64)
    cells = [torch.tensor([3, 20, 7]), torch.tensor([5])]
    some = flows([x[:, chosen] for x, chosen in zip(rows, cells, strict=True)], cells)
    for x, everywhere, chosen in zip(some, flows(rows), cells, strict=True):
        torch.testing.assert_close(x, everywhere[:, chosen], rtol=1e-12, atol=0)


def test_the_same_vector_elsewhere_has_another_likelihood():
    rows = [x[:, :1].expand(x.shape) for x in make_rows()]
    for log_probs in make_flows()(rows):
        assert len(set(log_probs[0].tolist())) == log_probs.shape[1]


def test_untrained_flows_are_rotations():
    rows = make_rows()
    flows = PositionFlows(CHANNELS, GRIDS, POSITION_CHANNELS, 2, torch.Generator().manual_seed(0))
    for x, log_probs in zip(rows, flows(rows), strict=True):
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(x).mean(2)
        torch.testing.assert_close(log_probs, normal, rtol=1e-5, atol=1e-5)


def test_loss_falls_with_the_likelihood():
    log_probs = torch.tensor([-3.0, -1.0, 0.0, 2.0], requires_grad=True)
    losses = torch.stack([sigmoid_loss(x) for x in log_probs])
    assert (losses.diff() < 0).all()
    torch.testing.assert_close(sigmoid_loss(log_probs), losses.mean())
    torch.testing.assert_close(losses[2], torch.tensor(2.0).log())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_frozen_weights_change_nothing(dtype):
    flows, rows = make_flows(), make_rows()
    flows.set_layer_dtype(dtype)
    frozen = copy.deepcopy(flows)
    frozen.freeze()
    exact = make_flows()(rows)
    for x, y, z in zip(flows(rows), frozen(rows), exact, strict=True):
        assert torch.equal(x, y) and x.dtype == torch.float32
        torch.testing.assert_close(x, z, rtol=0, atol=1e-6 if dtype is None else 0.1)


def test_position_codes_are_not_stored():
    assert all(name.startswith("flows.") for name in make_flows().state_dict())
