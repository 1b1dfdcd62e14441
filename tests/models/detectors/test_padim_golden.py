"""PaDiM's parts against golden/padim.npz; tests/golden/README.md section 5 says how its arrays were made."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_arrays import PADIM_TRAIN_IMAGES, load, sampled
from scipy.ndimage import gaussian_filter

from models.features.channel_choice import ChannelChoice, draw_channels, stack
from models.features.position_gaussian import PositionGaussian, PositionMoments, inverse_factors, mahalanobis
from models.maps.smoothing import enlarge_and_smooth, enlarging_matrix, gaussian_kernel, smoothing_matrix

# Constants of the original and of anomalib, which the file does not hold.
REGULARISATION, SIGMA, SEED = 0.01, 4.0, 1024
ANOMALIB_EXTRA = 1e-5
TOTALS = {"orig_idx_resnet18": 64 + 128 + 256, "orig_idx_wrn50": 256 + 512 + 1024}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("padim")


@pytest.fixture(scope="module")
def moments(golden) -> PositionMoments:
    maps = torch.from_numpy(golden["emb_train"])
    moments = PositionMoments(maps.shape[2] * maps.shape[3], maps.shape[1])
    for batch in maps.split(7):
        moments.update(batch)
    return moments


@pytest.fixture(scope="module")
def gaussian(moments) -> PositionGaussian:
    gaussian = PositionGaussian(*moments.mean.shape)
    gaussian.fit(moments, REGULARISATION)
    return gaussian


def taps(golden, split: str) -> list[torch.Tensor]:
    return [torch.from_numpy(golden[f"in/{split}_layer{layer}"]) for layer in (1, 2, 3)]


def close(actual: torch.Tensor, expected: np.ndarray, relative: float = 1e-5) -> None:
    """Relative to the largest value."""
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=relative * np.abs(expected).max())


def smooth(golden, distances: torch.Tensor) -> torch.Tensor:
    size = golden["map_up"].shape[-1]
    matrix = (smoothing_matrix(size, SIGMA) @ enlarging_matrix(distances.shape[-1], size)).to(distances.dtype)
    return enlarge_and_smooth(distances, matrix, matrix)


def test_embeddings_are_nearest_neighbour_upsampling_and_the_choice_keeps_its_order(golden):
    channels = torch.from_numpy(golden["idx"])
    assert (channels.diff() < 0).any()
    train, test = taps(golden, "train"), taps(golden, "test")
    assert np.array_equal(stack([x[:1] for x in train]), golden["emb_concat_train0"])
    assert np.array_equal(stack(test), golden["emb_concat_test"])
    choice = ChannelChoice(channels, [x.shape[1] for x in train])
    assert np.array_equal(choice(train), golden["emb_train"][:PADIM_TRAIN_IMAGES])
    assert np.array_equal(choice(test), golden["emb_test"])


def test_the_original_choices_of_channels(golden):
    for name, total in TOTALS.items():
        assert np.array_equal(draw_channels(total, len(golden[name]), SEED), golden[name])


def test_mean_and_covariance(golden, moments):
    close(moments.mean.T, golden["mean"])
    dims = moments.mean.shape[1]
    covariance = moments.covariance() + REGULARISATION * torch.eye(dims)
    scale = covariance.diagonal(dim1=1, dim2=2).sqrt()  # (P, d)
    error = (covariance - torch.from_numpy(golden["cov"]).permute(2, 0, 1)) / (scale[:, :, None] * scale[:, None])  # (P, d, d)
    assert error.abs().max() < 1e-6


def test_distances(golden, gaussian):
    maps = torch.from_numpy(golden["emb_test"])
    close(mahalanobis(gaussian(maps)), golden["dist"])
    close(mahalanobis(gaussian(maps)), golden["dist_f64"])


def test_distances_in_float64(golden):
    """Moments in two passes, everything in float64: only the factor is ours."""
    maps = [torch.from_numpy(golden[f"emb_{split}"]).double() for split in ("train", "test")]
    train, test = (x.flatten(2).permute(2, 0, 1) for x in maps)  # (P, N, d), (P, B, d)
    deviations = train - train.mean(1, keepdim=True)  # (P, N, d)
    matrices = inverse_factors(deviations.mT @ deviations / (train.shape[1] - 1), REGULARISATION)
    whitened = (test - train.mean(1, keepdim=True)) @ matrices.mT  # (P, B, d)
    distances = whitened.square().sum(2).sqrt().T.reshape(golden["dist_f64"].shape)  # (B, h, w)
    np.testing.assert_allclose(distances, golden["dist_f64"], rtol=1e-10)


def test_map_and_image_score(golden, gaussian):
    distances = mahalanobis(gaussian(torch.from_numpy(golden["emb_test"])))
    size = golden["map_up"].shape[-1]
    enlarging = enlarging_matrix(distances.shape[-1], size).float()
    close(enlarge_and_smooth(distances, enlarging, enlarging), golden["map_up"])
    maps = smooth(golden, distances)
    close(maps, golden["map_smooth"])
    close(maps.amax((1, 2)), golden["image_score_raw"])
    # The matrix alone is scipy's filter.
    expected = np.stack([gaussian_filter(x, SIGMA) for x in golden["map_up"].astype(np.float64)])
    matrix = smoothing_matrix(size, SIGMA)
    close(enlarge_and_smooth(torch.from_numpy(golden["map_up"]).double(), matrix, matrix), expected, 1e-12)


def min_max(maps: torch.Tensor) -> torch.Tensor:
    """The original's scaling: over all test images together."""
    return (maps - maps.min()) / (maps.max() - maps.min())


def test_the_originals_scores_depend_on_the_other_test_images_and_ours_do_not(golden, gaussian):
    maps = torch.from_numpy(golden["emb_test"])
    together = smooth(golden, mahalanobis(gaussian(maps)))
    close(min_max(together), golden["map_norm"])
    close(min_max(together).amax((1, 2)), golden["image_score_norm"])
    goods = torch.from_numpy(golden["labels"] == 0)
    alone = smooth(golden, mahalanobis(gaussian(maps[goods])))
    assert (min_max(together)[goods].amax((1, 2)) - min_max(alone).amax((1, 2))).abs().max() > 0.05
    torch.testing.assert_close(alone, together[goods], rtol=1e-6, atol=0)


def test_anomalib_adds_to_the_covariance_and_mirrors_without_the_edge(golden, moments):
    close(moments.mean.T, golden["anomalib/mean"])
    gaussian = PositionGaussian(*moments.mean.shape)
    gaussian.fit(moments, REGULARISATION + ANOMALIB_EXTRA)
    matrices = gaussian.matrices()
    close(sampled(matrices.mT @ matrices), golden["anomalib/inv_cov"])
    distances = mahalanobis(gaussian(torch.from_numpy(golden["emb_test"])))
    close(distances, golden["anomalib/dist"])

    kernel = gaussian_kernel(SIGMA)
    blur = torch.outer(kernel, kernel)
    close(blur, golden["anomalib/blur_kernel"][0, 0])
    size, radius = golden["anomalib/map"].shape[-1], len(kernel) // 2
    raised = F.interpolate(distances[:, None], size=(size, size), mode="bilinear", align_corners=False)
    theirs = F.conv2d(F.pad(raised, (radius,) * 4, mode="reflect"), blur[None, None].float())[:, 0]  # (B, H, W)
    close(theirs, golden["anomalib/map"])
    close(theirs.amax((1, 2)), golden["anomalib/image_score"])
    difference = (smooth(golden, distances) - theirs).abs()
    assert difference[:, radius:-radius, radius:-radius].max() < 3e-4
    assert 0.05 < difference.max() < 0.15
