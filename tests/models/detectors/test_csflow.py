"""What is CS-Flow's own: score modes, the grid, several taps, and that the pieces fit together."""

import pytest
import torch
from pydantic import ValidationError

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detectors.csflow import CsFlow, CsFlowConfig
from models.features.whitening import Moments
from models.flows.likelihood import energy_cells, scale_means

BACKBONE = BackboneConfig(name="test_resnet", taps=("layer2",), weights="none")


def make(images: torch.Tensor, backbone: BackboneConfig = BACKBONE, **hyperparameters) -> CsFlow:
    """A detector without a head whose whitening is fitted to the images and whose flow is random."""
    config = ArtifactConfig(
        name="tiny",
        backbone=backbone,
        input=InputConfig(height=images.shape[1], width=images.shape[2]),
        hyperparameters={"whiten_dims": 9, "hidden": 8, "kernels": [3, 3], "head": None} | hyperparameters,
    )
    detector = registry.build(config)
    assert isinstance(detector, CsFlow)
    maps = detector.extract(images)
    moments = [Moments(x.shape[1]) for x in maps]
    for moment, x in zip(moments, maps, strict=True):
        moment.update(x)
    detector.fit_whitening(moments)
    torch.manual_seed(0)
    for name, parameter in detector.flow.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    detector.fitted = True  # by hand, as it were
    return detector


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (12, 64, 80, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_features_are_whitened(images):
    detector = make(images, whiten_floor=1e-9)
    features = detector.whitening(detector.extract(images))
    assert [tuple(x.shape[1:]) for x in features] == [(9, 8, 10), (9, 4, 5), (9, 2, 3)]
    assert detector.grids == [(8, 10), (4, 5), (2, 3)]
    cells = features[0].permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, k)
    torch.testing.assert_close(cells.T.cov(), torch.eye(9), atol=1e-2, rtol=0)


def test_score_modes(images):
    detector = make(images)
    latents = detector.flow.latents(detector.whitening(detector.extract(images)))
    mean = torch.cat([z.flatten(1) for z in latents], 1).square().mean(1) / 2
    torch.testing.assert_close(detector.score(images).score, mean)
    largest = make(images, score="max", map="energy").score(images)
    torch.testing.assert_close(largest.score, energy_cells(latents).amax((1, 2)))
    torch.testing.assert_close(largest.anomaly_map, energy_cells(latents))
    other = make(images, score="max").score(images)
    assert torch.equal(other.score, largest.score), "the kind of map changes no score"
    with torch.no_grad():
        z, log_det_jac = detector.flow(detector.whitening(detector.extract(images)))
    of_all_cells = (z[0].square().sum((1, 2, 3)) / 2 - log_det_jac[:, 0]) / 9
    torch.testing.assert_close(other.anomaly_map.sum((1, 2)), of_all_cells, msg="the map is scale 0's part of the loss")
    top = make(images, score="top", top_share=0.05).score(images)  # 4 of 80 cells
    highest = energy_cells(latents).flatten(1).sort(1).values[:, -4:]
    torch.testing.assert_close(top.score, highest.mean(1))
    both = make(images, score="mean_top", top_share=0.05).score(images)
    torch.testing.assert_close(both.score, (mean * highest.mean(1)).sqrt())
    by_scale = make(images, score="scales")
    means = scale_means(latents)
    by_scale.fit_scales(means.detach())
    logs = means.log()
    expected = ((logs - logs.mean(0)) / logs.std(0)).mean(1)
    torch.testing.assert_close(by_scale.score(images).score, expected, rtol=1e-4, atol=1e-5)


def test_several_taps_share_the_coarsest_grid(images):
    backbone = BACKBONE.model_copy(update={"taps": ("layer1", "layer2")})
    detector = make(images, backbone)
    single = make(images)
    maps, coarse = detector.extract(images), single.extract(images)
    for x, y in zip(maps, coarse, strict=True):
        assert x.shape[2:] == y.shape[2:]
        torch.testing.assert_close(x[:, -y.shape[1] :], y)


def test_a_blank_of_the_batch_is_not_returned(images):
    detector = make(images[:3])
    assert len(detector.score(images[:3]).score) == 3


def test_whiten_dims_are_at_most_the_channels(images):
    detector = make(images, whiten_dims=4096)
    assert detector.config.hyperparameters["whiten_dims"] == detector.extract(images[:1])[0].shape[1]


def test_sizes_whose_grids_do_not_halve_are_refused():
    config = ArtifactConfig(
        name="tiny",
        backbone=BackboneConfig(name="test_convnext", taps=(1,), weights="none"),
        input=InputConfig(height=60, width=64),
    )
    with pytest.raises(ValueError, match="image size must give feature maps that halve.*60 x 64"):
        registry.build(config)


@pytest.mark.parametrize("wrong", [{"kernels": [4]}, {"kernels": []}, {"score": "sum"}, {"blocks": 4}])
def test_hyperparameters_are_validated(wrong):
    with pytest.raises(ValidationError):
        CsFlowConfig(**wrong)
