"""What is FastFlow's own: levels, scores, maps, the reference's LayerNorm, and backbones that are transformers."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.detectors.fastflow import FastFlow, FastFlowConfig, FastFlowTraining
from models.flows import level_flows
from models.flows.level_flows import LevelFlows, energy_map, likelihood_map, nll_map
from models.flows.likelihood import elements, nll_loss

BACKBONE = BackboneConfig(name="test_resnet", weights="none")
GRIDS = [(8, 10), (4, 5)]  # reductions 8 and 16 of 64 x 80 pixels
TRANSFORMERS = {
    "one block": BackboneConfig(name="test_vit", weights="none", kwargs={"img_size": [64, 80]}),
    "two blocks": BackboneConfig(name="test_vit", taps=(3, 1), weights="none", kwargs={"img_size": [64, 80]}),
    "distilled": BackboneConfig(
        name="deit_tiny_distilled_patch16_224", taps=(1,), weights="none", kwargs={"img_size": [64, 80], "depth": 3}
    ),
}


class InMemory:
    def __init__(self, maps: list[torch.Tensor]):
        self.maps = maps

    def read(self, positions: torch.Tensor) -> list[torch.Tensor]:
        return [x[positions] for x in self.maps]


def build(backbone: BackboneConfig = BACKBONE, **hyperparameters) -> FastFlow:
    config = ArtifactConfig(
        name="tiny",
        detector="fastflow",
        backbone=backbone,
        input=InputConfig(height=64, width=80),
        batch_size=4,
        hyperparameters={"whiten_dims": 12, "steps": 2, "head": None} | hyperparameters,
    )
    detector = registry.build(config)
    assert isinstance(detector, FastFlow)
    return detector


def fit(detector: FastFlow, images: torch.Tensor, **settings) -> list[float]:
    """Returns the loss of every step."""
    losses: list[float] = []
    run = FitRun(FastFlowTraining(**({"epochs": 1} | settings)), on_step=lambda step: losses.append(step.loss))
    detector.fit(InMemory(detector.extract(images)), torch.arange(len(images)), run)
    return losses


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (8, 64, 80, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def latents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, channels, *grid, generator=generator) for channels, grid in zip((3, 5), GRIDS, strict=True)]


def test_levels_are_the_taps_whitened_one_by_one(images):
    detector = build(whiten_dims=36, whiten_floor=1e-9)
    assert detector.grids == GRIDS
    channels = [x.shape[1] for x in detector.extract(images[:1])]
    fit(detector, images)
    whitened = detector.whitened(detector.extract(images))
    assert [x.shape[1] for x in whitened] == [min(36, count) for count in channels]
    cells = whitened[1].permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, k)
    torch.testing.assert_close(cells.T.cov(), torch.eye(cells.shape[1]), atol=1e-2, rtol=0)


def test_energy_map(latents):
    size = GRIDS[0]
    levels = [F.interpolate(z.square().mean(1, keepdim=True), size=size, mode="bilinear") for z in latents]
    torch.testing.assert_close(energy_map(latents, size), torch.cat(levels, 1).mean(1))


def test_likelihood_map_is_bounded_and_saturates(latents):
    size = GRIDS[0]
    levels = [F.interpolate((-0.5 * z.square().mean(1, keepdim=True)).exp(), size=size, mode="bilinear") for z in latents]
    cells = likelihood_map(latents, size)
    torch.testing.assert_close(cells, 1 - torch.cat(levels, 1).mean(1))
    assert cells.min() >= 0 and cells.max() <= 1
    assert likelihood_map([torch.zeros_like(z) for z in latents], size).eq(0).all()
    far, farther = ([factor * torch.ones_like(z) for z in latents] for factor in (10.0, 100.0))
    assert torch.equal(likelihood_map(far, size), likelihood_map(farther, size))
    assert (energy_map(far, size) < energy_map(farther, size)).all()


@pytest.mark.parametrize("kind", ["nll", "energy", "likelihood"])
def test_scores(images, kind):
    detector = build(map=kind)
    fit(detector, images)
    largest = build(map=kind, score="max")
    largest.load_state_dict(detector.state_dict())
    with torch.no_grad():
        read = detector.flow.normed(detector.whitened(detector.extract(images)))
        latents, log_dets = detector.flow.cells_of_normed(read)
    mean, maximum = detector.score(images), largest.score(images)
    per_level = torch.stack([z.flatten(1).square().mean(1) / 2 for z in latents], 1)  # (B, levels)
    torch.testing.assert_close(mean.score, per_level.mean(1))
    expected = {
        "nll": lambda latents, size: nll_map(latents, log_dets, size),
        "energy": energy_map,
        "likelihood": likelihood_map,
    }[kind](latents, GRIDS[0])
    for scored in (mean, maximum):
        torch.testing.assert_close(scored.anomaly_map, expected)
    torch.testing.assert_close(maximum.score, expected.amax((1, 2)))


def test_the_loss_is_the_references_sum_divided_by_the_elements(images):
    detector = build()
    fit(detector, images)
    maps = detector.whitened(detector.extract(images))
    with torch.no_grad():
        latents, log_det_jac = detector.flow(maps)
    reference = sum(
        (0.5 * z.square().sum((1, 2, 3)) - log_det_jac[:, level]).mean() for level, z in enumerate(latents)
    )  # tests/golden/README.md section 4
    torch.testing.assert_close(nll_loss(latents, log_det_jac) * elements(latents), reference)


def test_training_lowers_the_loss(images):
    losses = fit(build(), images, epochs=12, batch_size=8)
    assert losses[-1] < losses[0]


def test_whitened_flows_start_as_permutations(images):
    detector = build()
    maps = [torch.randn(2, dims, *grid) for dims, grid in zip(detector.whitening.dims, detector.grids, strict=True)]
    for x, z in zip(maps, detector.flow.latents(maps), strict=True):
        torch.testing.assert_close(z.sort(1).values, x.sort(1).values, rtol=1e-4, atol=1e-5)


def test_the_references_layer_norms_are_trained(images):
    detector = build(whiten_dims=None, kernels=[3], steps=3)
    assert detector.whitening is None and not any("whitening" in key for key in detector.state_dict())
    channels = detector.backbone.channels
    assert [norm.weight.shape for norm in detector.flow.norms] == [(c, *g) for c, g in zip(channels, GRIDS, strict=True)]
    maps = detector.extract(images)
    for x in detector.flow.normed(maps):
        assert x.flatten(1).mean(1).abs().max() < 1e-3
    fit(detector, images, epochs=2)
    for norm in detector.flow.norms:
        assert (norm.weight != 1).any() and (norm.bias != 0).any()
    assert torch.isfinite(detector.score(images).score).all()


def test_kernels_take_turns_and_the_ratio_sets_the_hidden_channels():
    flow = build(steps=5, kernels=[3, 1], whiten_dims=9, hidden_ratio=0.5).flow
    for level in flow.flows:
        assert [block.subnet.kernel for block in level.blocks] == [3, 1, 3, 1, 3]
        assert {block.subnet.enter.weight.shape[:2] for block in level.blocks} == {(2, 5)}  # floor(5 / 2) of ceil(9 / 2)
        assert {block.subnet.leave.weight.shape[0] for block in level.blocks} == {8}


@pytest.mark.parametrize("images_a_pass", [1, 2, 3, 100])
def test_latents_and_forward_agree(monkeypatch, images_a_pass):
    monkeypatch.setattr(level_flows, "CPU_ELEMENTS_PER_PASS", images_a_pass * 4 * 6 * 5)
    flow = LevelFlows([4, 5], (3, 1), 1.0, torch.Generator().manual_seed(0), norm_grids=[(6, 5), (3, 3)])
    maps = [torch.randn(3, 4, 6, 5), torch.randn(3, 5, 3, 3)]
    latents, log_det_jac = flow(maps)
    assert log_det_jac.shape == (3, 2)
    for z, alone in zip(latents, flow.latents(maps), strict=True):
        torch.testing.assert_close(z, alone)


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("whiten_dims", [12, None])
def test_transformers_train_and_score(images, kind, whiten_dims):
    backbone = TRANSFORMERS[kind]
    detector = build(backbone, whiten_dims=whiten_dims, hidden_ratio=0.16)
    assert detector.grids == [(4, 5)] * len(backbone.taps or (0,))
    losses = fit(detector, images, epochs=2, batch_size=4)
    assert len(losses) == 4 and all(torch.isfinite(torch.tensor(losses)))
    again = registry.build(detector.config)
    again.load_state_dict(detector.state_dict())
    scored = again.freeze().score(images)
    assert scored.anomaly_map.shape == (8, 4, 5)
    assert torch.isfinite(scored.score).all() and scored.score.unique().numel() == 8
    torch.testing.assert_close(scored.score, detector.score(images).score)


def test_a_convolutional_backbones_default_taps_have_reductions_8_and_16():
    assert build().config.backbone.taps == (2, 3)


def test_the_embedding_is_of_the_finest_level_wherever_it_stands(images):
    coarse_first = build(BACKBONE.model_copy(update={"taps": (2, 1)}))
    fit(coarse_first, images)
    scored = coarse_first.score(images)
    assert scored.anomaly_map.shape == (8, 16, 20)
    whitened = coarse_first.whitened(coarse_first.extract(images))
    torch.testing.assert_close(scored.embedding[:, :12], whitened[1].mean((2, 3)).half())


@pytest.mark.parametrize(
    "wrong", [{"kernels": [2]}, {"kernels": []}, {"steps": 0}, {"map": "z"}, {"score": "sum"}, {"levels": 3}]
)
def test_hyperparameters_are_validated(wrong):
    with pytest.raises(ValidationError):
        FastFlowConfig(**wrong)
