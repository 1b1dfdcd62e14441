"""The cross-scale flow is invertible and its log-determinant is autograd's, whatever the shape."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flows.coupling import legacy_permutations, soft_clamp
from models.flows.cross_scale import CrossConvolution, CrossScaleFlow
from models.flows.likelihood import elements, energy_cells, mean_score, nll_loss, scale_means

SHAPES = st.fixed_dictionaries(
    {
        "channels": st.integers(2, 7),
        "rows": st.integers(1, 5),
        "columns": st.integers(1, 5),
        "scales": st.integers(1, 3),
        "kernels": st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3).map(tuple),
        "clamp": st.sampled_from([0.0, 1.5, 3.0]),
        "seed": st.integers(0, 2**31 - 1),
    }
)


def make_flow(channels, scales, kernels, clamp, seed, dtype=torch.float64, **_) -> CrossScaleFlow:
    torch.manual_seed(seed)
    flow = CrossScaleFlow(channels, scales, hidden=5, kernels=kernels, clamp=clamp).to(dtype)
    for module in flow.modules():
        if isinstance(module, CrossConvolution):
            # Without a clamp exponents have no bound: larger ones make Jacobians that float64 cannot invert.
            torch.nn.init.uniform_(module.gamma, *((-1, 1) if clamp else (-0.3, 0.3)))
    return flow


def make_maps(channels, rows, columns, scales, batch=2, dtype=torch.float64, **_) -> list[torch.Tensor]:
    sizes = [(math.ceil(rows / 2**i), math.ceil(columns / 2**i)) for i in range(scales)]
    return [torch.randn(batch, channels, *size, dtype=dtype) for size in sizes]


def test_log_det_of_a_cell_is_autograds():
    """With kernels of one and one scale no cell reads another, so each has a Jacobian of its own."""
    flow = make_flow(channels=5, scales=1, kernels=(1, 1, 1), clamp=3.0, seed=4)
    maps = [torch.randn(2, 5, 3, 4, dtype=torch.float64)]
    latents, log_det_jac = flow.with_cell_log_det(maps)
    assert torch.equal(latents[0], flow.latents(maps)[0])

    def of_cell(vector: torch.Tensor) -> torch.Tensor:
        return flow.latents([vector.view(1, 5, 1, 1)])[0].flatten()

    for image, row, column in [(0, 0, 0), (1, 2, 3)]:
        jacobian = torch.autograd.functional.jacobian(of_cell, maps[0][image, :, row, column])
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det_jac[image, row, column])


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_log_dets_of_cells_sum_to_scale_0s(shape):
    flow, maps = make_flow(**shape), make_maps(**shape)
    cells = flow.with_cell_log_det(maps)[1]
    assert cells.shape == (2, shape["rows"], shape["columns"])
    torch.testing.assert_close(cells.sum((1, 2)), flow(maps)[1][:, 0])


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_log_det_is_autograds(shape):
    flow, maps = make_flow(**shape), make_maps(**shape, batch=1)
    sizes = [x.numel() for x in maps]

    def vector_to_vector(vector: torch.Tensor) -> torch.Tensor:
        parts = [part.view_as(x) for part, x in zip(vector.split(sizes), maps, strict=True)]
        return torch.cat([z.flatten() for z in flow.latents(parts)])

    jacobian = torch.autograd.functional.jacobian(vector_to_vector, torch.cat([x.flatten() for x in maps]))
    _, log_det_jac = flow(maps)
    assert log_det_jac.shape == (1, shape["scales"])
    # What elimination can be off by: see Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 14.6.
    rounding = len(jacobian) * torch.finfo(torch.float64).eps * float(torch.linalg.cond(jacobian))
    assert rounding < 1e-3
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det_jac.sum(), rtol=1e-9, atol=1e-9 + rounding)


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_inverse(shape):
    flow, maps = make_flow(**shape), make_maps(**shape)
    with torch.no_grad():
        latents, _ = flow(maps)
        for x, z, back in zip(maps, latents, flow.inverse(latents), strict=True):
            assert z.shape == x.shape
            torch.testing.assert_close(back, x, rtol=0, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_an_image_does_not_see_its_batch(shape):
    flow, maps = make_flow(**shape), make_maps(**shape, batch=3)
    with torch.no_grad():
        together = flow.latents(maps)
        alone = flow.latents([x[1:2] for x in maps])
    for z, one in zip(together, alone, strict=True):
        torch.testing.assert_close(z[1:2], one, rtol=1e-12, atol=1e-12)


def test_an_untrained_flow_permutes():
    flow = CrossScaleFlow(6, 2, hidden=4, kernels=(3,))
    maps = make_maps(6, 4, 4, 2, dtype=torch.float32)
    latents, log_det_jac = flow(maps)
    for x, z, order in zip(maps, latents, legacy_permutations(0, 6, 2), strict=True):
        assert torch.equal(z, x[:, order])
    assert not log_det_jac.any()


def test_permutations_differ_by_scale_and_block():
    first, second = legacy_permutations(0, 64, 3), legacy_permutations(1, 64, 3)
    assert len({tuple(order) for order in [*first, *second]}) == 6
    assert all(sorted(order) == list(range(64)) for order in first)


def test_soft_clamp():
    raw = torch.tensor([-1e9, -1.0, 0.0, 1.0, 1e9])
    clamped = soft_clamp(raw, 3.0)
    assert clamped.abs().max() < 3.0
    torch.testing.assert_close(clamped[3], torch.tensor(3 * 0.636 * math.atan(1 / 3)))
    assert torch.equal(soft_clamp(raw, 0.0), raw)


def test_bf16_convolutions_keep_the_state_in_float32():
    shape = dict(channels=16, rows=8, columns=6, scales=3, kernels=(3, 3), clamp=3.0, seed=0, dtype=torch.float32)
    flow, maps = make_flow(**shape), make_maps(**shape)
    exact, exact_log_det = flow(maps)
    flow.set_conv_dtype(torch.bfloat16)
    latents, log_det_jac = flow(maps)
    nll_loss(latents, log_det_jac).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in flow.parameters())
    for z, reference in zip(latents, exact, strict=True):
        assert z.dtype == torch.float32
        assert (z - reference).abs().max() < 0.05
    torch.testing.assert_close(log_det_jac, exact_log_det, rtol=0.02, atol=0.5)
    with torch.no_grad():
        for x, back in zip(maps, flow.inverse(flow.latents(maps)), strict=True):
            torch.testing.assert_close(back, x, rtol=0, atol=1e-2)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_frozen_weights_change_nothing(dtype):
    shape = dict(channels=8, rows=8, columns=8, scales=3, kernels=(3, 5), clamp=3.0, seed=1, dtype=torch.float32)
    flow, maps = make_flow(**shape).to(memory_format=torch.channels_last), make_maps(**shape)
    maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    flow.set_conv_dtype(dtype)
    frozen = copy.deepcopy(flow)
    frozen.freeze()
    with torch.no_grad():
        for z, other in zip(flow.latents(maps), frozen.latents(maps), strict=True):
            assert torch.equal(z, other)


def test_what_is_read_off_the_latents():
    latents = [torch.randn(2, 3, 4, 5), torch.randn(2, 3, 2, 3)]
    log_det_jac = torch.randn(2, 2)
    every = torch.cat([z.flatten(1) for z in latents], 1)  # (B, D)
    assert elements(latents) == every.shape[1] == 78
    torch.testing.assert_close(mean_score(latents), (every**2 / 2).mean(1))
    torch.testing.assert_close(scale_means(latents)[:, 1], (latents[1] ** 2 / 2).mean((1, 2, 3)))
    torch.testing.assert_close(energy_cells(latents), (latents[0] ** 2).mean(1))
    log_prob = torch.distributions.Normal(0, 1).log_prob(every).sum(1) + log_det_jac.sum(1)
    expected = -log_prob.mean() / 78 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(nll_loss(latents, log_det_jac), expected)


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
