"""What is CFLOW's own: levels, maps and their constants, and that a score needs no other image."""

import copy

import pytest
import torch
from cflow_reference_maps import reference_maps
from pydantic import ValidationError

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.detectors.cflow import CFlow, CFlowConfig, CFlowTraining
from models.flows.position_flows import log_prob_per_dim

BACKBONE = BackboneConfig(name="test_resnet", weights="none")
SMALL = {"whiten_dims": 9, "position_channels": 8, "steps": 2}


class InMemory:
    def __init__(self, maps: list[torch.Tensor]):
        self.maps = maps

    def read(self, positions: torch.Tensor) -> list[torch.Tensor]:
        return [x[positions] for x in self.maps]


def make(images: torch.Tensor, training: CFlowTraining | None = None, on_step=lambda step: None, **fields) -> CFlow:
    """Fitted to the images, (N, H, W, 3) uint8; other fields are hyper-parameters, or the backbone."""
    config = ArtifactConfig(
        name="tiny",
        detector="cflow",
        backbone=fields.pop("backbone", BACKBONE),
        input=InputConfig(height=images.shape[1], width=images.shape[2]),
        hyperparameters=SMALL | fields,
    )
    detector = registry.build(config)
    assert isinstance(detector, CFlow)
    run = FitRun(training or CFlowTraining(epochs=2, batch_size=4), on_step=on_step)
    detector.fit(InMemory(detector.extract(images)), torch.arange(len(images)), run)
    return detector


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (12, 64, 80, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def detector(images) -> CFlow:
    return make(images).freeze()


def energies(detector: CFlow, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return detector.energies(detector.whitened(detector.extract(images)))


def test_levels_are_the_taps_of_reductions_8_and_16(detector):
    assert detector.grids == [(8, 10), (4, 5)]
    assert (detector.config.map_height, detector.config.map_width) == (8, 10)
    assert [x.shape[1:] for x in energies(detector, torch.zeros(2, 64, 80, 3, dtype=torch.uint8))] == [(8, 10), (4, 5)]


def test_taps_in_any_order(images, detector):
    taps = detector.config.backbone.taps
    other = make(images, backbone=BACKBONE.model_copy(update={"taps": taps[::-1]}))
    assert other.grids == detector.grids[::-1] and other.map_grid == detector.map_grid
    assert other.score(images).anomaly_map.shape == (12, 8, 10)


def test_published_scores_depend_on_the_other_images_and_ours_do_not(images, detector):
    """The same detector's likelihoods, once by the published rule and once by ours."""
    density = make(images, map="density").freeze()
    images = images.clone()
    images[7:] = 255 - images[7:] // 8

    def published(chosen: slice) -> torch.Tensor:
        return reference_maps([-x for x in energies(density, images[chosen])], (64, 80)).score

    assert (published(slice(None))[:3] - published(slice(3))).abs().max() > 1e-3
    for part, alone in zip(detector.score(images), detector.score(images[:3]), strict=True):
        assert torch.equal(part[:3], alone)


def test_constants_are_those_of_the_training_cells(images, detector):
    for level, energy in enumerate(energies(detector, images)):
        torch.testing.assert_close(detector.energy_mean[level], energy.mean(), rtol=1e-5, atol=0)
        torch.testing.assert_close(detector.energy_std[level], energy.std(), rtol=1e-5, atol=0)
        torch.testing.assert_close(detector.energy_least[level], energy.min(), rtol=1e-5, atol=0)


def test_energies_are_without_the_log_determinant_or_with_it(images, detector):
    rows = [x.flatten(2).transpose(1, 2) for x in detector.whitened(detector.extract(images))]  # (B, cells, k)
    density = copy.deepcopy(detector)
    density.hyper = detector.hyper.model_copy(update={"map": "density"})
    found = zip(energies(detector, images), energies(density, images), detector.flows.flows, rows, strict=True)
    for level, (length, surprise, flow, x) in enumerate(found):
        with torch.no_grad():
            z, log_det_jac = flow(x.flatten(0, 1), detector.flows.codes()[level])
        torch.testing.assert_close(length.flatten(), z.square().mean(1) / 2)
        torch.testing.assert_close(surprise.flatten(), -log_prob_per_dim(z, log_det_jac))


@pytest.mark.parametrize("kind", ["latents", "density"])
def test_standardised_map(images, kind):
    detector = make(images, map=kind).freeze()
    fine, coarse = (
        (energy - detector.energy_mean[level]) / detector.energy_std[level]
        for level, energy in enumerate(energies(detector, images))
    )
    raised = torch.nn.functional.interpolate(coarse[:, None], size=(8, 10), mode="bilinear")[:, 0]  # (B, 8, 10)
    scored = detector.score(images)
    torch.testing.assert_close(scored.anomaly_map, (fine + raised) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scored.score, scored.anomaly_map.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_features_are_means_over_a_neighbourhood(images):
    plain, wide = make(images, neighbourhood=(1,)), make(images, neighbourhood=(5, 3))
    own, found = plain.extract(images[:2]), wide.extract(images[:2])
    assert all(torch.equal(x, y) for x, y in zip(own, plain.backbone(plain.prepare(images[:2])), strict=True))
    for level, reach in ((0, 2), (1, 1)):
        x = own[level]
        torch.testing.assert_close(found[level][:, :, 2, 3], x[:, :, 2 - reach : 3 + reach, 3 - reach : 4 + reach].mean((2, 3)))
        torch.testing.assert_close(
            found[level][:, :, 0, 0], x[:, :, : 1 + reach, : 1 + reach].mean((2, 3))
        )  # those that are there


def test_likelihood_map_and_the_largest_cell(images, detector):
    other = make(images, map="likelihood", score="max").freeze()
    scored = other.score(images)
    assert 0 < scored.anomaly_map.min() and scored.anomaly_map.max() < 1  # of the images that it was fitted to
    torch.testing.assert_close(scored.score, scored.anomaly_map.amax((1, 2)))
    fine, coarse = ((least - energy).exp() for least, energy in zip(other.energy_least, energies(other, images), strict=True))
    raised = torch.nn.functional.interpolate(coarse[:, None], size=(8, 10), mode="bilinear")[:, 0]  # (B, 8, 10)
    torch.testing.assert_close(scored.anomaly_map, 1 - (fine + raised) / 2, rtol=1e-4, atol=1e-5)


def test_it_learns_what_belongs_where():
    """Goods that show one pattern: mirrored, the same vectors stand elsewhere."""
    generator = torch.Generator().manual_seed(1)
    pattern = torch.randint(0, 200, (1, 8, 10, 3), generator=generator)
    pattern = pattern.repeat_interleave(8, 1).repeat_interleave(8, 2)  # (1, 64, 80, 3)
    goods = (pattern + 20 * torch.rand(16, 64, 80, 3, generator=generator)).to(torch.uint8)
    losses: list[float] = []
    training = CFlowTraining(epochs=20, batch_size=8, learning_rate=3e-2, ema=0.9)
    detector = make(goods, training, on_step=lambda step: losses.append(step.loss)).freeze()
    assert len(losses) == 40 and losses[-1] < losses[0] - 0.1
    assert detector.score(goods.flip(2)).score.min() > 3 * detector.score(goods).score.abs().max()


def test_a_step_may_read_all_cells(images):
    few, every = (make(images, CFlowTraining(epochs=1, batch_size=4, cells=cells)) for cells in (80, None))
    assert all(torch.equal(x, y) for x, y in zip(few.state_dict().values(), every.state_dict().values(), strict=True))
    less = make(images, CFlowTraining(epochs=1, batch_size=4, cells=5))
    assert not torch.equal(few.energy_mean, less.energy_mean)


def test_it_can_score_after_every_epoch(images):
    found: list[torch.Tensor] = []
    built: list[CFlow] = []

    def after_epoch(epoch: int) -> bool:
        found.append(built[0].energy_mean.clone())
        return epoch == 1

    built.append(make(images))
    features = InMemory(built[0].extract(images))
    run = FitRun(CFlowTraining(epochs=5, batch_size=4, learning_rate=1e-2), after_epoch=after_epoch)
    built[0].fit(features, torch.arange(12), run)
    assert len(found) == 2 and not torch.equal(found[0], found[1])
    assert torch.equal(found[1], built[0].energy_mean)


def test_features_as_they_are(images):
    detector = make(images, whiten_dims=None)
    assert detector.whitening is None
    maps = detector.extract(images)
    assert all(torch.equal(x, y) for x, y in zip(detector.whitened(maps), maps, strict=True))
    scored = detector.freeze().score(images)
    assert torch.isfinite(scored.score).all()


@pytest.mark.parametrize(
    "wrong",
    [{"position_channels": 6}, {"whiten_dims": 1}, {"map": "sum"}, {"score": "sum"}, {"P": 128}, {"neighbourhood": [2]}],
)
def test_hyperparameters_are_validated(wrong):
    with pytest.raises(ValidationError):
        CFlowConfig(**wrong)
