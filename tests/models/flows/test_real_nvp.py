"""The RealNVP on feature vectors is invertible and its log-determinant is autograd's, whatever the shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flows.coupling import legacy_permutations
from models.flows.real_nvp import FullyConnected, RealNvp

SHAPES = st.fixed_dictionaries(
    {
        "features": st.integers(2, 11),
        "blocks": st.integers(1, 5),
        "clamp": st.sampled_from([0.0, 1.5, 3.0]),
        "seed": st.integers(0, 2**31 - 1),
    }
)


def make_flow(features, blocks, clamp, seed, dtype=torch.float64, hidden=7) -> RealNvp:
    torch.manual_seed(seed)
    flow = RealNvp(features, blocks, hidden, clamp).to(dtype)
    for module in flow.modules():
        if isinstance(module, FullyConnected):
            torch.nn.init.normal_(module.layers[-1].weight, std=0.3)
            torch.nn.init.normal_(module.layers[-1].bias, std=0.3)
    return flow


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_log_det_is_autograds(shape):
    flow = make_flow(**shape)
    x = torch.randn(3, shape["features"], dtype=torch.float64)
    latents, log_det_jac = flow(x)
    assert latents.shape == x.shape and log_det_jac.shape == (3,)
    for i, row in enumerate(x):
        jacobian = torch.autograd.functional.jacobian(lambda vector: flow.latents(vector[None])[0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det_jac[i], rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_inverse(shape):
    flow = make_flow(**shape)
    x = torch.randn(4, shape["features"], dtype=torch.float64)
    with torch.no_grad():
        latents, _ = flow(x)
        assert torch.equal(latents, flow.latents(x))
        torch.testing.assert_close(flow.inverse(latents), x, rtol=0, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_a_row_does_not_see_the_others(shape):
    flow = make_flow(**shape)
    x = torch.randn(4, shape["features"], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(flow.latents(x)[1:2], flow.latents(x[1:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("features", [6, 7])
def test_an_untrained_flow_permutes(features):
    flow = RealNvp(features, blocks=2, hidden=4)
    x = torch.randn(3, features)
    latents, log_det_jac = flow(x)
    first, second = (legacy_permutations(block, features, 1)[0] for block in range(2))
    assert torch.equal(latents, x[:, first][:, second])
    assert not log_det_jac.any()


def test_bf16_products_keep_the_state_in_float32():
    flow = make_flow(features=24, blocks=4, clamp=3.0, seed=0, dtype=torch.float32, hidden=32)
    x = torch.randn(16, 24)
    exact, exact_log_det = flow(x)
    flow.set_matmul_dtype(torch.bfloat16)
    latents, log_det_jac = flow(x)
    (latents.square().sum() - log_det_jac.sum()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in flow.parameters())
    assert latents.dtype == log_det_jac.dtype == torch.float32
    assert (latents - exact).abs().max() < 0.1
    torch.testing.assert_close(log_det_jac, exact_log_det, rtol=0.02, atol=0.5)


def test_an_input_beyond_the_limit_stays_finite():
    flow = make_flow(features=5, blocks=2, clamp=3.0, seed=2, dtype=torch.float32)
    assert flow.latents(torch.full((1, 5), 1e30)).abs().max() <= 1e6


def test_a_frozen_flow_computes_the_same_until_other_weights_are_loaded():
    flow, other = (make_flow(features=6, blocks=2, clamp=3.0, seed=seed, dtype=torch.float32) for seed in (0, 1))
    x = torch.randn(4, 6)
    with torch.no_grad():
        expected = flow.latents(x), other.latents(x)
        flow.freeze()
        assert torch.equal(flow.latents(x), expected[0])
        flow.load_state_dict(other.state_dict())
        assert torch.equal(flow.latents(x), expected[1])


def test_fp16_products_are_for_scores_and_gradients_are_exact():
    flow = make_flow(features=24, blocks=4, clamp=3.0, seed=0, dtype=torch.float32, hidden=32)
    x = torch.randn(16, 24)
    exact = flow(x)[0]
    flow.set_matmul_dtype(torch.float16)
    assert torch.equal(flow(x)[0], exact)
    with torch.no_grad():
        rounded = flow(x)[0]
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert (rounded - exact).abs().max() < 0.02
