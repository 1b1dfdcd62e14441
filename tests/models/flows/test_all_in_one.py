"""The coupling block of CFLOW-AD and FastFlow is invertible and its log-determinant is autograd's, rows and maps."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flows.all_in_one import UNIT_GAIN, AllInOneFlow, map_flow, rotation, row_flow

SEEDS = st.integers(0, 2**31 - 1)
ROWS = st.fixed_dictionaries(
    {"channels": st.integers(2, 9), "condition": st.sampled_from([0, 4]), "steps": st.integers(1, 4), "seed": SEEDS}
)
MAPS = st.fixed_dictionaries(
    {
        "channels": st.integers(2, 7),
        "rows": st.integers(1, 4),
        "columns": st.integers(1, 4),
        "kernels": st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3).map(tuple),
        "hidden_ratio": st.sampled_from([0.16, 0.5, 1.0]),
        "clamp": st.sampled_from([1.9, 2.0]),
        "seed": SEEDS,
    }
)


def stirred(flow: AllInOneFlow, generator: torch.Generator, dtype: torch.dtype) -> AllInOneFlow:
    """With log-scales, shifts and gains that matter: freshly made ones are all but the identity."""
    with torch.no_grad():
        for block in flow.blocks:
            block.subnet.leave.weight.mul_(10)
            block.subnet.leave.bias.mul_(10)
            block.global_scale.copy_(UNIT_GAIN + torch.randn(block.global_scale.shape, generator=generator))
            block.global_offset.copy_(torch.randn(block.global_offset.shape, generator=generator))
    return flow.to(dtype)


def make_rows(channels, condition, steps, seed, count=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    flow = stirred(row_flow(channels, condition, steps, generator), generator, dtype)
    x = torch.randn(count, channels, generator=generator).to(dtype)
    given = torch.randn(count, condition, generator=generator).to(dtype) if condition else None
    return flow, x, given


def make_maps(channels, rows, columns, kernels, hidden_ratio, clamp, seed, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    flow = stirred(map_flow(channels, kernels, hidden_ratio, generator, clamp), generator, dtype)
    return flow, torch.randn(batch, channels, rows, columns, generator=generator).to(dtype)


def log_det_of_jacobian(flow: AllInOneFlow, x: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
    """Of one image or row, by autograd."""
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.latents(v.view_as(x), given).flatten(), x.flatten())
    return torch.linalg.slogdet(jacobian)[1]


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_rows_log_det_is_autograds(shape):
    flow, x, condition = make_rows(**shape)
    _, log_det_jac = flow(x, condition)
    assert log_det_jac.shape == (len(x),)
    for i in range(len(x)):
        expected = log_det_of_jacobian(flow, x[i : i + 1], None if condition is None else condition[i : i + 1])
        torch.testing.assert_close(log_det_jac[i], expected, rtol=1e-9, atol=1e-9)
    z, of_rows = flow.with_cell_log_det(x, condition)
    assert torch.equal(z, flow.latents(x, condition))
    torch.testing.assert_close(of_rows, log_det_jac)


@settings(max_examples=30, deadline=None)
@given(MAPS)
def test_maps_log_det_is_autograds(shape):
    flow, x = make_maps(**shape)
    _, log_det_jac = flow(x)
    assert log_det_jac.shape == (len(x),)
    for i in range(len(x)):
        torch.testing.assert_close(log_det_jac[i], log_det_of_jacobian(flow, x[i : i + 1], None), rtol=1e-9, atol=1e-9)
    z, of_cells = flow.with_cell_log_det(x)
    assert of_cells.shape == (len(x), *x.shape[2:]) and torch.equal(z, flow.latents(x))
    torch.testing.assert_close(of_cells.sum((1, 2)), log_det_jac)


@settings(max_examples=10, deadline=None)
@given(MAPS)
def test_log_det_of_a_cell_is_autograds(shape):
    """With kernels of one no cell reads another, so each has a Jacobian of its own."""
    flow, x = make_maps(**shape | {"kernels": (1, 1)})
    cells = flow.with_cell_log_det(x)[1]
    torch.testing.assert_close(cells[0, -1, 0], log_det_of_jacobian(flow, x[:1, :, -1:, :1], None), rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_rows_inverse(shape):
    flow, x, condition = make_rows(**shape)
    with torch.no_grad():
        z, _ = flow(x, condition)
        assert z.shape == x.shape and torch.equal(z, flow.latents(x, condition))
        torch.testing.assert_close(flow.inverse(z, condition), x, rtol=0, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(MAPS)
def test_maps_inverse(shape):
    flow, x = make_maps(**shape)
    with torch.no_grad():
        z, _ = flow(x)
        assert z.shape == x.shape and torch.equal(z, flow.latents(x))
        torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(MAPS)
def test_a_map_does_not_see_its_batch(shape):
    flow, x = make_maps(**shape, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(flow.latents(x)[1:2], flow.latents(x[1:2]), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(MAPS)
def test_a_kernel_of_one_is_the_block_of_rows(shape):
    """The same block on every cell by itself, the permutation written as a matrix."""
    flow, x = make_maps(**(shape | {"kernels": (1, 1)}))
    generator = torch.Generator().manual_seed(0)
    hidden = flow.blocks[0].subnet.enter.out_channels
    cells = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # (B * H * W, C)
    expected = cells
    for block in flow.blocks:
        linear = type(block)(x.shape[1], hidden, None, block.clamp, generator, soft=True).double()
        state = {name: value.flatten(2).squeeze(2) if value.ndim == 4 else value for name, value in block.state_dict().items()}
        state["rotation"] = torch.eye(x.shape[1], dtype=torch.float64)[state.pop("perm_idx")]
        linear.load_state_dict(state)
        expected = linear.latents(expected)
    z = flow.latents(x).permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # (B * H * W, C)
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)


def test_an_untrained_block_has_gain_one_and_keeps_its_first_half():
    generator = torch.Generator().manual_seed(0)
    block = map_flow(7, (3,), 1.0, generator).blocks[0]
    torch.testing.assert_close(block.gain(), torch.ones(7), rtol=1e-6, atol=0)
    x = torch.randn(2, 7, 3, 4)
    before_permutation = block.latents(x)[:, block.perm_idx.argsort()]
    torch.testing.assert_close(before_permutation[:, :4], x[:, :4], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(before_permutation[:, 4:], x[:, 4:], atol=1e-6)


def test_a_flow_can_start_as_a_permutation():
    flow, x = make_maps(5, 3, 4, (3, 1), 1.0, clamp=2.0, seed=0, dtype=torch.float32)
    for block in flow.blocks:
        torch.nn.init.constant_(block.global_scale, UNIT_GAIN)
        torch.nn.init.zeros_(block.global_offset)
    flow.start_as_permutation()
    z, log_det_jac = flow(x)
    first, second = (block.perm_idx for block in flow.blocks)
    torch.testing.assert_close(z, x[:, first][:, second])
    torch.testing.assert_close(log_det_jac, torch.zeros(2), rtol=0, atol=1e-4)


def test_the_log_scale_is_limited():
    flow, x = make_maps(4, 2, 2, (1,), 1.0, clamp=2.0, seed=0)
    with torch.no_grad():
        flow.blocks[0].subnet.leave.bias.fill_(1e9)
        flow.blocks[0].global_scale.fill_(UNIT_GAIN)
        _, log_det_jac = flow(x)
    torch.testing.assert_close(log_det_jac, torch.full((2,), 2.0 * 2 * 4, dtype=torch.float64))  # clamp, channels, cells


@pytest.mark.parametrize("channels", [1, 2, 5, 64])
def test_rotation(channels):
    matrix = rotation(channels, torch.Generator().manual_seed(channels))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(channels, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("make", [lambda g: row_flow(6, 4, 3, g), lambda g: map_flow(6, (3, 1), 1.0, g)])
def test_only_the_generator_decides_the_weights(make):
    first = make(torch.Generator().manual_seed(1)).state_dict()
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = make(torch.Generator().manual_seed(1)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = make(torch.Generator().manual_seed(2)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(torch.isfinite(value).all() for value in first.values())
    for name in ("blocks.0.subnet.enter.weight", "blocks.1.subnet.leave.bias"):
        assert not torch.equal(first[name], other[name])
        bound = 1 / math.sqrt(first[name.replace("bias", "weight")][0].numel())
        assert 0.5 * bound < first[name].abs().max() <= bound


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_frozen_weights_change_nothing(dtype):
    flow, x = make_maps(8, 6, 5, (3, 1), 1.0, clamp=2.0, seed=0, dtype=torch.float32)
    flow, x = flow.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    rows, vectors, condition = make_rows(8, 4, 2, seed=0, dtype=torch.float32)
    for module, arguments in ((flow, (x,)), (rows, (vectors, condition))):
        module.set_layer_dtype(dtype)
        frozen = copy.deepcopy(module)
        frozen.freeze()
        with torch.no_grad():
            assert torch.equal(module.latents(*arguments), frozen.latents(*arguments))


def test_bf16_layers_keep_the_state_in_float32():
    flow, x = make_maps(16, 8, 6, (3, 1), 1.0, clamp=2.0, seed=0, dtype=torch.float32)
    rows, vectors, condition = make_rows(16, 4, 2, seed=0, dtype=torch.float32)
    for module, arguments in ((flow, (x,)), (rows, (vectors, condition))):
        exact, exact_log_det = module(*arguments)
        module.set_layer_dtype(torch.bfloat16)
        z, log_det_jac = module(*arguments)
        (z.square().sum() - log_det_jac.sum()).backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
        assert z.dtype == log_det_jac.dtype == torch.float32
        assert not torch.equal(z, exact) and (z - exact).abs().max() < 0.2
        torch.testing.assert_close(log_det_jac, exact_log_det, rtol=0.02, atol=0.5)
        with torch.no_grad():
            inputs = arguments[0]
            torch.testing.assert_close(module.inverse(z, *arguments[1:]), inputs, rtol=0, atol=1e-1)


def test_one_channel_cannot_be_coupled():
    with pytest.raises(ValueError, match="channels must be at least 2; got 1"):
        map_flow(1, (3,), 1.0, torch.Generator())
