"""What is PaDiM's own: the embedding, the closed-form fit, map and score as the original's, the size of the artifact."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from torch import Tensor

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun, Step
from models.detectors.padim import STATISTICS_BYTES, Padim, PadimTraining, default_dims
from models.features.channel_choice import draw_channels, stack
from models.features.variation import READ_IMAGES

BACKBONE = BackboneConfig(name="test_resnet", weights="none")
SIZE = (64, 96)


class Computed:
    """Features computed at every read, and what was read."""

    def __init__(self, detector: Padim, images: Tensor):
        self.detector, self.images = detector, images
        self.read_positions: list[int] = []

    def read(self, positions: Tensor) -> list[Tensor]:
        self.read_positions += positions.tolist()
        return self.detector.extract(self.images[positions])


def build(backbone: BackboneConfig = BACKBONE, **hyperparameters) -> Padim:
    size = InputConfig(height=SIZE[0], width=SIZE[1])
    config = ArtifactConfig(name="tiny", detector="padim", backbone=backbone, input=size, hyperparameters=hyperparameters)
    detector = registry.build(config)
    assert isinstance(detector, Padim)
    return detector


def drawn(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, *SIZE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return drawn(40, seed=1)


@pytest.fixture(scope="module")
def fitted(images) -> Padim:
    detector = build(dims=13, score="max")
    detector.fit(Computed(detector, images), torch.arange(len(images)), FitRun(PadimTraining()))
    return detector


def test_the_embedding_is_the_chosen_channels_of_three_taps(images):
    detector = build(dims=13)
    assert detector.config.backbone.taps == (1, 2, 3)
    maps = detector.backbone(detector.prepare(images[:2]))
    assert [SIZE[0] // x.shape[2] for x in maps] == [4, 8, 16]
    (embedded,) = detector.extract(images[:2])
    assert embedded.shape == (2, 13, 16, 24)
    assert torch.equal(detector.channels, draw_channels(sum(x.shape[1] for x in maps), 13, seed=1024))
    assert torch.equal(embedded, stack(maps)[:, detector.channels])


def test_the_choice_follows_the_config_and_the_artifact_holds_it(fitted):
    other = build(dims=13, channel_seed=5)
    assert not torch.equal(other.channels, fitted.channels)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.channels, fitted.channels)
    every = build(dims=10_000)
    assert every.hyper.dims == len(every.channels) == sum(every.backbone.channels)
    assert every.config.hyperparameters["dims"] == every.hyper.dims


def test_the_fit_reads_every_image_once_after_a_look_at_the_first_few(images):
    detector = build(dims=4)
    features = Computed(detector, images)
    steps: list[Step] = []
    chosen = torch.arange(0, len(images) - 3)
    detector.fit(features, chosen, FitRun(PadimTraining(), on_step=steps.append))
    assert features.read_positions == chosen[:READ_IMAGES].tolist() + chosen.tolist()
    assert [step.step for step in steps] == list(range(steps[0].steps)) and not Padim.reads_often


def test_maps_and_scores_are_the_papers(fitted, images):
    """From mean and covariance by numpy, filtered by scipy, in float64."""
    train, test = (fitted.extract(x)[0].double().numpy() for x in (images, drawn(5, seed=2)))
    distances = np.zeros((len(test), 16, 24))
    for row in range(16):
        for column in range(24):
            here = train[:, :, row, column]
            precision = np.linalg.inv(np.cov(here.T) + 0.01 * np.eye(here.shape[1]))
            deviations = test[:, :, row, column] - here.mean(0)
            distances[:, row, column] = np.sqrt(np.einsum("bi,ij,bj->b", deviations, precision, deviations))
    raised = torch.nn.functional.interpolate(torch.from_numpy(distances)[:, None], SIZE, mode="bilinear", align_corners=False)
    expected = np.stack([gaussian_filter(x, 4.0) for x in raised[:, 0].numpy()])
    scored = fitted.score_features([torch.from_numpy(test).float()])
    np.testing.assert_allclose(scored.anomaly_map, expected, rtol=1e-4)
    np.testing.assert_allclose(scored.score, expected.max((1, 2)), rtol=1e-4)


def test_the_default_score_is_the_mean_of_the_highest_fifth_of_the_map(fitted):
    detector = build(dims=13)
    detector.load_state_dict(fitted.state_dict())
    scored = detector.score_features(detector.extract(drawn(3, seed=4)))
    highest = scored.anomaly_map.flatten(1).sort(1, descending=True).values[:, : round(0.2 * SIZE[0] * SIZE[1])]
    torch.testing.assert_close(scored.score, highest.mean(1))


@pytest.mark.parametrize(("cells", "dims"), [(32 * 32, 400), (64 * 64, 192), (10**9, 16)])
def test_default_dims_bound_the_artifact(cells, dims):
    assert default_dims(cells) == dims
    assert dims == 16 or 4 * cells * dims * (dims + 3) / 2 <= STATISTICS_BYTES < 4 * cells * (dims + 16) * (dims + 19) / 2


def test_the_map_that_is_kept_has_the_finest_taps_cells(fitted):
    images = drawn(3, seed=3)
    own, kept = fitted.score_features(fitted.extract(images)).anomaly_map, fitted.score(images).anomaly_map
    assert own.shape == (3, *SIZE) and kept.shape == (3, 16, 24)
    centres = own.reshape(3, 16, 4, 24, 4)[:, :, 1:3, :, 1:3].mean((2, 4))  # (B, h, w): halfway between the middle pixels
    torch.testing.assert_close(kept, centres)


def test_without_smoothing_the_score_is_the_largest_enlarged_distance(fitted):
    detector = build(dims=13, smoothing_sigma=0.0, score="max")
    detector.load_state_dict(fitted.state_dict())
    maps = detector.extract(drawn(3, seed=4))
    cells = torch.linalg.vector_norm(detector.gaussian(maps[0]), dim=1)
    raised = torch.nn.functional.interpolate(cells[:, None], SIZE, mode="bilinear", align_corners=False)
    torch.testing.assert_close(detector.score_features(maps).score, raised.amax((1, 2, 3)))


def test_a_defect_is_found_where_it_is(fitted):
    image = drawn(1, seed=5)
    image[:, 16:32, 60:80] = 255
    cells = fitted.score(image).anomaly_map[0]
    row, column = divmod(int(cells.argmax()), cells.shape[1])
    assert 3 <= row <= 8 and 14 <= column <= 20


def test_the_artifact_holds_triangles(fitted):
    """Positions x d (d + 1) / 2, and nothing that follows from the config."""
    own = {name: tuple(x.shape) for name, x in fitted.state_dict().items() if not name.startswith("backbone.")}
    assert own == {"channels": (13,), "gaussian.mean": (16 * 24, 13), "gaussian.factor": (16 * 24, 13 * 14 // 2)}


def test_taps_in_any_order_and_of_one_layer(images):
    for taps, grid in (((3, 1), (16, 24)), ((2,), (8, 12)), (("layer3", "layer2"), (8, 12))):
        detector = build(BACKBONE.model_copy(update={"taps": taps}), dims=5)
        assert detector.extract(images[:1])[0].shape == (1, 5, *grid)


def test_efficientnet_b5_reads_the_papers_layers():
    detector = build(BackboneConfig(name="efficientnet_b5", weights="none"), dims=5)
    assert detector.config.backbone.taps == ("blocks.1", "blocks.3", "blocks.4")
    assert detector.backbone.channels == [40, 128, 176]


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"regularisation": 0.0}, {"smoothing_sigma": -1.0}, {"sigma": 4.0}])
def test_wrong_hyperparameters_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        build(**wrong)
