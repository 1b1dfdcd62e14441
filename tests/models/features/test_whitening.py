import numpy as np
import pytest
import torch

from models.features.variation import NoVariation
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


def standardised(whitening: Whitening, maps: list[torch.Tensor]) -> torch.Tensor:
    """The weight as it reads channels of variance 1, (scales, k, C): eigenvectors over the roots of their eigenvalues."""
    std = torch.stack([cells_of(x).double().std(0) for x in maps])  # (scales, C)
    return whitening.weight * std[:, None]


def eigenvalues(rows: torch.Tensor) -> torch.Tensor:
    return 1 / rows.square().sum(2)  # (scales, k)


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
    rows = standardised(whitening, maps)
    assert (eigenvalues(rows).diff(dim=1) <= 0).all()
    largest = rows.gather(2, rows.abs().argmax(2, keepdim=True))
    assert (largest > 0).all()


def test_the_floor_bounds_the_gain():
    maps = correlated(60, 8, seed=3)
    whitening = fitted(maps, 8, floor=0.5)
    assert eigenvalues(standardised(whitening, maps)).min().item() == pytest.approx(0.5)
    assert cells_of(whitening(maps)[0]).var(0).min() < 0.9


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


@pytest.mark.parametrize("level", [0.0, 5.0, -0.3])
def test_features_without_variance_are_refused_by_name(level):
    moments = Moments(3)
    moments.update(torch.full((4, 3, 2, 2), level))
    with pytest.raises(NoVariation, match="features must vary; their largest standard deviation is "):
        Whitening(1, 3, 2).fit([moments])
