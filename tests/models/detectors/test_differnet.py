"""What is DifferNet's own: copies, pooled features, both maps, and what a fit reads."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from pydantic import ValidationError

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.detectors.differnet import DifferNet, DifferNetConfig, DifferNetTraining
from models.features.variation import READ_IMAGES
from models.flows.real_nvp import FullyConnected

BACKBONE = BackboneConfig(name="test_resnet", taps=("layer2",), weights="none")


class InMemory:
    """Features of a few images, computed once, and how many images were read."""

    def __init__(self, detector: DifferNet, images: torch.Tensor):
        self.maps = detector.extract(images)
        self.images_read = 0

    def read(self, positions: torch.Tensor) -> list[torch.Tensor]:
        self.images_read += len(positions)
        return [x[positions] for x in self.maps]


def surfaces(count: int, height: int = 64, width: int = 64, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    light = 100 + 5 * torch.rand(count, 1, 1, 3, generator=generator)
    return (light + 12 * torch.randn(count, height, width, 3, generator=generator)).clamp(0, 255).to(torch.uint8)


def build(images: torch.Tensor, backbone: BackboneConfig = BACKBONE, **hyperparameters) -> DifferNet:
    config = ArtifactConfig(
        name="tiny",
        detector="differnet",
        backbone=backbone,
        input=InputConfig(height=images.shape[1], width=images.shape[2]),
        hyperparameters={"whiten_dims": 9, "hidden": 8, "blocks": 3, "head": None} | hyperparameters,
    )
    detector = registry.build(config)
    assert isinstance(detector, DifferNet)
    return detector


def fit(detector: DifferNet, images: torch.Tensor, **training) -> InMemory:
    features = InMemory(detector, images)
    detector.fit(features, torch.arange(len(images)), FitRun(DifferNetTraining(**{"epochs": 1} | training)))
    return features


def fitted(images: torch.Tensor, backbone: BackboneConfig = BACKBONE, **hyperparameters) -> DifferNet:
    """A detector with fitted whitening and a random flow."""
    detector = build(images, backbone, **hyperparameters)
    fit(detector, images)
    torch.manual_seed(0)
    for module in detector.flow.modules():
        if isinstance(module, FullyConnected):
            torch.nn.init.normal_(module.layers[-1].weight, std=0.2)
    return detector.freeze()


def test_features_are_the_means_of_turned_copies():
    images = surfaces(3)
    detector = build(images, transforms=8, scales=2)
    pooled, cells = detector.extract(images)
    assert pooled.shape == (3, 2 * cells.shape[1], 16, 1)
    torch.testing.assert_close(pooled[:, : cells.shape[1], 0, 0], cells.mean((2, 3)))
    for i in range(16):
        turned = np.stack([np.asarray(Image.fromarray(x.numpy()).rotate(45 * (i % 8))) for x in images])
        turned = turned if i < 8 else turned[:, :, ::-1].copy()
        copies = detector.extract(torch.from_numpy(turned))[0]
        torch.testing.assert_close(pooled[:, :, i], copies[:, :, 0], rtol=1e-5, atol=1e-6)


def test_without_mirror_images_there_are_the_turned_copies_alone():
    images = surfaces(2)
    turned = build(images, mirrored=False).extract(images)[0]
    assert turned.shape[2] == 4
    assert torch.equal(turned, build(images).extract(images)[0][:, :, :4])


def test_all_copies_of_a_square_image_are_the_images_own_symmetries():
    """So that an image, turned or mirrored, has the same score."""
    images = surfaces(3)
    detector = fitted(images)
    expected = detector.score(images).score
    for other in (images.flip(1), images.flip(2), images.transpose(1, 2).contiguous()):
        torch.testing.assert_close(detector.score(other).score, expected, rtol=1e-4, atol=1e-5)


def test_copies_keep_the_canvas():
    images = surfaces(2, 48, 80)
    detector = build(images)
    turned = np.stack([np.asarray(Image.fromarray(x.numpy()).rotate(90)) for x in images])
    torch.testing.assert_close(
        detector.extract(images)[0][:, :, 1], detector.extract(torch.from_numpy(turned))[0][:, :, 0], rtol=1e-5, atol=1e-6
    )
    assert (detector.config.map_height, detector.config.map_width) == (6, 10)


def test_black_is_black_before_normalisation():
    detector = build(surfaces(1))
    black = detector.prepare(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert torch.equal(black[0, :, 0, 0], detector.black)


@pytest.mark.parametrize("whiten_dims", [9, None])
def test_the_score_is_the_mean_over_copies_and_features(whiten_dims):
    images = surfaces(6)
    detector = fitted(images, whiten_dims=whiten_dims)
    pooled = detector.extract(images)[0]
    expected = []
    for copies in pooled:
        rows = copies[:, :, 0].T  # (T, F)
        if detector.whitening is not None:
            rows = rows @ detector.whitening.weight[0].T + detector.whitening.bias[0]
        expected.append(detector.flow.latents(rows).square().mean())
    torch.testing.assert_close(detector.score(images).score, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_whitening_is_over_the_copies_of_all_images():
    images = surfaces(24)
    detector = fitted(images, whiten_floor=1e-9, whiten_dims=5)
    rows = detector._whitened(detector.extract(images)[0])[..., 0].transpose(1, 2).flatten(0, 1)  # (B * T, k)
    torch.testing.assert_close(rows.T.cov(), torch.eye(5), atol=1e-2, rtol=0)


def test_cells_add_up_to_the_first_order_part_of_the_score():
    images = surfaces(6)
    detector = fitted(images)
    maps = detector.extract(images)
    upright = maps[0][:, :, :1].requires_grad_()
    (gradient,) = torch.autograd.grad(detector._energy(detector._whitened(upright)).sum(), upright)
    excess = maps[1].mean((2, 3)) - detector.cell_mean  # (B, C)
    expected = (gradient[:, : excess.shape[1], 0, 0] * excess).sum(1)
    torch.testing.assert_close(detector.score_features(maps).anomaly_map.mean((1, 2)), expected, rtol=1e-3, atol=1e-4)


def test_the_map_of_a_gaussian_is_twice_its_score():
    """With one copy, one scale and a flow that only permutes, the score is quadratic about the typical cell."""
    images = surfaces(20)
    detector = build(images, transforms=1, mirrored=False, scales=1)
    fit(detector, images)
    detector.flow = detector._new_flow(0)
    scored = detector.score(images)
    torch.testing.assert_close(scored.anomaly_map.mean((1, 2)), 2 * scored.score, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["contribution", "gradient"])
def test_the_map_shows_where(kind):
    detector = build(surfaces(40), map=kind)
    fit(detector, surfaces(40), epochs=4)
    images = surfaces(4, seed=2)
    images[0, 8:24, 40:56] = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(3)).byte()
    scored = detector.freeze().score(images)
    assert scored.score.argmax() == 0 and scored.anomaly_map.amax((1, 2)).argmax() == 0
    size = scored.anomaly_map.shape[1]
    row, column = divmod(int(scored.anomaly_map[0].argmax()), size)
    margin = 0 if kind == "contribution" else 6  # the gradient is smoothed, by 3 pixels
    assert 8 - margin <= (row + 0.5) * 64 / size <= 24 + margin and 40 - margin <= (column + 0.5) * 64 / size <= 56 + margin


def test_several_taps_share_the_first_ones_grid():
    images = surfaces(4)
    backbone = BACKBONE.model_copy(update={"taps": ("layer1", "layer2")})
    detector, single = fitted(images, backbone), fitted(images)
    pooled, *cells = detector.extract(images)
    assert len(cells) == 2 and pooled.shape[1] == 3 * sum(x.shape[1] for x in cells)
    torch.testing.assert_close(
        pooled[:, cells[0].shape[1] :][:, : cells[1].shape[1]], single.extract(images)[0][:, : cells[1].shape[1]]
    )
    assert detector.score_features([pooled, *cells]).anomaly_map.shape == (4, *cells[0].shape[2:])


def test_the_gradient_map_is_the_originals():
    """By quarter turns of a square, where the original's splines are exact, against the original's steps with scipy."""
    images = surfaces(2)
    detector = fitted(surfaces(20, seed=2), mirrored=False, map="gradient")
    copies = np.stack([np.rot90(images.numpy(), turn, (1, 2)) for turn in range(4)], 1)  # (B, T, H, W, 3)
    inputs = detector.prepare(torch.from_numpy(copies.reshape(8, 64, 64, 3))).requires_grad_()  # (B * T, 3, H, W)
    whitened = detector._whitened(detector._pooled(inputs, 0)[0][..., None, None])
    (gradient,) = torch.autograd.grad(detector._loss([whitened]) * len(inputs), inputs)
    turned = gradient.view(2, 4, 3, 64, 64).numpy()
    back = np.stack([scipy.ndimage.rotate(turned[:, i], -90 * i, axes=(3, 2), reshape=False) for i in range(4)], 1)
    smooth = scipy.ndimage.gaussian_filter(back, (0, 0, 0, 3, 3), mode="mirror")
    expected = np.abs(smooth).mean((1, 2)) ** 2
    actual = detector.score(images).anomaly_map
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 * expected.max())


@pytest.mark.parametrize("kind", ["contribution", "gradient"])
def test_a_map_does_not_depend_on_the_batch(kind):
    images = surfaces(6)
    detector = fitted(images, map=kind)
    maps = detector.extract(images)
    together = detector.score_features(maps).anomaly_map
    alone = detector.score_features([x[2:3] for x in maps]).anomaly_map
    torch.testing.assert_close(alone, together[2:3], rtol=1e-3, atol=1e-4 * float(together.abs().max()))


def test_a_fit_reads_the_store_twice_whatever_the_epochs():
    images = surfaces(10)
    features = fit(build(images), images, epochs=7)
    assert features.images_read == READ_IMAGES + 20


def test_training_lowers_the_loss():
    images, losses = surfaces(32), []
    detector = build(images, hidden=64)
    run = FitRun(DifferNetTraining(epochs=20, learning_rate=3e-3), on_step=lambda step: losses.append(step.loss))
    detector.fit(InMemory(detector, images), torch.arange(32), run)
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.02


def test_whiten_dims_are_at_most_the_features():
    images = surfaces(1)
    detector = build(images, whiten_dims=4096)
    assert detector.config.hyperparameters["whiten_dims"] == detector.extract(images)[0].shape[1]


@pytest.mark.parametrize("wrong", [{"transforms": 0}, {"whiten_dims": 1}, {"map": "saliency"}, {"kernels": [3]}])
def test_hyperparameters_are_validated(wrong):
    with pytest.raises(ValidationError):
        DifferNetConfig(**wrong)
