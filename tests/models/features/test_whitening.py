import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from models.features.whitening import Moments, Whitening

SIZES = ((6, 5), (3, 3))


def correlated(images: int, channels: int, seed: int) -> list[torch.Tensor]:
    """Feature maps of two scales with a covariance far from the identity."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator) * torch.logspace(-2, 1, channels)
    maps = []
    for rows, columns in SIZES:
        cells = torch.randn(images, rows, columns, channels, generator=generator) @ mix + 7
        maps.append(cells.permute(0, 3, 1, 2))  # (B, C, H, W)
    return maps


def fitted(maps: list[torch.Tensor], dims: int, floor: float = 1e-3) -> Whitening:
    moments = [Moments(x.shape[1]) for x in maps]
    for start in range(0, len(maps[0]), 7):
        for moment, x in zip(moments, maps, strict=True):
            moment.update(x[start : start + 7])
    whitening = Whitening(len(maps), maps[0].shape[1], dims)
    whitening.fit(moments, floor)
    return whitening


def cells_of(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, C)


def test_one_pass_moments_are_numpys():
    x = correlated(23, 9, seed=0)[0] + 1e4
    moments = Moments(9)
    for part in x.split(5):
        moments.update(part)
    cells = cells_of(x).double().numpy()
    np.testing.assert_allclose(moments.mean, cells.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance(), np.cov(cells.T), rtol=1e-9, atol=1e-9)
    assert moments.count == len(cells)


def test_whitened_components_are_uncorrelated_with_variance_one():
    maps = correlated(60, 8, seed=1)
    for z in fitted(maps, 5, floor=1e-9)(maps):
        cells = cells_of(z).double().numpy()
        np.testing.assert_allclose(np.cov(cells.T), np.eye(5), atol=2e-3)
        np.testing.assert_allclose(cells.mean(0), 0, atol=1e-3)


def test_components_come_by_falling_variance_with_fixed_signs():
    maps = correlated(60, 8, seed=2)
    whitening = fitted(maps, 8, floor=1e-9)
    assert (whitening.eigenvalues.diff(dim=1) <= 0).all()
    vectors = whitening.weight * whitening.eigenvalues.sqrt()[:, :, None] * whitening.std[:, None]
    largest = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
    assert (largest > 0).all()


def test_the_floor_bounds_the_gain():
    maps = correlated(60, 8, seed=3)
    whitening = fitted(maps, 8, floor=0.5)
    assert whitening.eigenvalues.min() == 0.5
    assert cells_of(whitening(maps)[0]).var(0).min() < 0.9


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**31 - 1))
def test_log_det_is_autograds(channels, seed):
    """Of the map from standardised coordinates (x - mean) / std, as the k = C rotation leaves volumes as they are."""
    maps = correlated(40, channels, seed)
    whitening = fitted(maps, channels).double()
    for s, (rows, columns) in enumerate(SIZES):
        shape = (1, channels, rows, columns)

        def whiten(standard: torch.Tensor, s: int = s, shape: tuple = shape) -> torch.Tensor:
            x = standard.view(shape) * whitening.std[s].view(1, -1, 1, 1) + whitening.mean[s].view(1, -1, 1, 1)
            each = [x if i == s else maps[i][:1].double() for i in range(len(maps))]
            return whitening(each)[s].flatten()

        jacobian = torch.autograd.functional.jacobian(whiten, torch.randn(int(np.prod(shape)), dtype=torch.float64))
        expected = torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(whitening.log_det_jac(maps)[s], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 4, 6])
def test_full_space_density_is_probabilistic_pca(dims):
    """With a standard normal on the k whitened coordinates the full density is a Gaussian with a known covariance."""
    maps = correlated(80, 6, seed=4)
    whitening = fitted(maps, dims)
    whitened = whitening(maps)
    log_normal = [torch.distributions.Normal(0, 1).log_prob(z.double()).sum((1, 2, 3)) for z in whitened]
    actual = torch.stack(log_normal, 1) + whitening.log_det_jac(maps) + whitening.full_space_log_prob(maps, whitened)
    for s, x in enumerate(maps):
        std = whitening.std[s].numpy()
        vectors = (whitening.weight[s].double() * whitening.eigenvalues[s].sqrt()[:, None]).numpy() * std
        residual = float(whitening.residual_variance[s]) * (np.eye(6) - vectors.T @ vectors) if dims < 6 else 0
        covariance = vectors.T @ np.diag(whitening.eigenvalues[s].numpy()) @ vectors + residual
        density = multivariate_normal(whitening.mean[s].numpy(), covariance * np.outer(std, std))
        expected = density.logpdf(cells_of(x).double().numpy()).reshape(len(x), -1).sum(1)
        np.testing.assert_allclose(actual[:, s], expected, rtol=1e-4, atol=1e-2)


def test_residual_energy_is_what_is_left_out():
    maps = correlated(50, 6, seed=5)
    whitening = fitted(maps, 3)
    energy = whitening.residual_energy(maps, whitening(maps))
    for e, (rows, columns) in zip(energy, SIZES, strict=True):
        assert e.shape == (50, rows, columns)
        assert float(e.mean()) == pytest.approx(3, rel=0.02)  # C - k


def test_a_constant_channel_is_kept_finite():
    maps = [torch.cat([x, torch.full_like(x[:, :1], 3.0)], 1) for x in correlated(30, 4, seed=6)]
    whitening = fitted(maps, 5)
    assert all(torch.isfinite(z).all() for z in whitening(maps))


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="features must be finite"):
        Moments(2).update(torch.tensor([[[[1.0]], [[float("nan")]]]]))
    with pytest.raises(ValueError, match="whiten_dims must be 1 to 4"):
        Whitening(1, 4, 5)
    with pytest.raises(ValueError, match="at least 2 cells"):
        Moments(3).covariance()
