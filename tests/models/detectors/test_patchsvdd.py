"""What Patch SVDD adds to the contract; the original's numbers are in test_patchsvdd_golden.py."""

import pytest
import torch
from torch import Tensor

from models import registry
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.detectors.patchsvdd import PatchSvdd
from models.maps.covering import distribute
from models.patches.encoder import EMBEDDING, LARGE, LARGE_STRIDE, SMALL
from models.patches.nearest import distances_to
from models.patches.training import PatchTraining

QUICK = PatchTraining(epochs=1, epoch_steps=0, pairs_per_image=1, batch_size=4)


class Stored:
    def __init__(self, detector: PatchSvdd, images: Tensor):
        self.pixels = detector.extract(images)[0]

    def read(self, positions: Tensor) -> list[Tensor]:
        return [self.pixels[positions]]


def images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, *size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def build(size: tuple[int, int], **hyperparameters) -> PatchSvdd:
    config = ArtifactConfig(
        name="tiny",
        detector="patchsvdd",
        input=InputConfig(height=size[0], width=size[1]),
        batch_size=2,
        hyperparameters=hyperparameters,
    )
    detector = registry.build(config)
    assert isinstance(detector, PatchSvdd)
    return detector


def fit(detector: PatchSvdd, goods: Tensor, **fields) -> PatchSvdd:
    run = FitRun(**({"training": QUICK} | fields))
    detector.fit(Stored(detector, goods), torch.arange(len(goods)), run)
    return detector


def test_the_backbone_is_none_whatever_was_given():
    detector = build((64, 80), stride=8, map="product")
    assert detector.config.backbone is None
    assert (detector.config.map_height, detector.config.map_width) == (8, 10)
    assert not any(key.startswith("backbone") for key in detector.state_dict())


@pytest.mark.parametrize(("stride", "bank"), [(4, "coreset"), (8, "random")])
@pytest.mark.parametrize(("exposure", "whiten_floor"), [("removed", None), ("kept", None), ("removed", 0.3)])
def test_scores_against_patches_that_are_cut_out(stride, bank, exposure, whiten_floor):
    """The original's way for an image in pixels: cut, embed, all distances, average, multiply."""
    size = (80, 96)
    settings = {"map": "product", "score": "max", "exposure": exposure, "whiten_floor": whiten_floor}
    detector = fit(build(size, stride=stride, bank_size=50, bank=bank, **settings), images(3, size)).freeze()
    image = images(1, size, seed=1)
    inputs = detector.prepare(image) - detector.mean_image
    if exposure == "removed":
        inputs = inputs - inputs.mean((1, 2, 3), keepdim=True)
    inputs = inputs / detector.pixel_std
    maps = []
    for level, patch, step, encoder, rows in (
        (1, SMALL, stride, detector.encoder.deep, detector.small_bank),
        (0, LARGE, LARGE_STRIDE, detector.encoder, detector.large_bank),
    ):
        patches = inputs[0].unfold(1, patch, step).unfold(2, patch, step).permute(1, 2, 0, 3, 4)  # (h, w, 3, patch, patch)
        embeddings = encoder(patches.flatten(0, 1)).flatten(1)  # (h * w, 64)
        if detector.whitening is not None:
            embeddings = embeddings @ detector.whitening.weight[level].T + detector.whitening.bias[level]
        distances = torch.cdist(embeddings.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        maps.append(distribute(distances.view(1, *patches.shape[:2]), patch, step, *size))
    pixels = (maps[0] * maps[1])[0]
    scored = detector.score(image)
    torch.testing.assert_close(scored.score[0].double(), pixels.max(), rtol=1e-4, atol=0)
    shown = scored.anomaly_map[0].repeat_interleave(stride, 0).repeat_interleave(stride, 1)  # (H, W)
    torch.testing.assert_close(shown.double(), pixels, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("whiten_floor", "most"), [(None, 0), (0.3, 1e-6)])
def test_a_bank_with_room_for_all_patches_finds_training_images_at_distance_zero(whiten_floor, most):
    size = (64, 64)
    goods = images(5, size)
    settings = {"map": "product", "bank_size": 5 * 9 * 9 + 3, "whiten_floor": whiten_floor}
    detector = fit(build(size, **settings), goods)
    fresh = build(size, **settings)
    fresh.load_state_dict(detector.state_dict())
    others = fresh.freeze().score(images(2, size, seed=1)).score
    assert (fresh.score(goods).score <= most * others.min()).all()
    assert (others > 0).all()


def test_whitened_embeddings_of_training_images_have_no_directions():
    size = (80, 96)
    goods = images(20, size)
    detector = fit(build(size, bank_size=10_000, whiten_floor=1e-9), goods)
    vectors = detector.compared(detector.prepare(goods))[0].permute(0, 2, 3, 1).flatten(0, 2)  # (patches, 64)
    assert len(vectors) > EMBEDDING
    torch.testing.assert_close(vectors.T.cov(), torch.eye(EMBEDDING), atol=0.02, rtol=0)


def test_the_map_of_large_patches_alone():
    size = (80, 96)
    goods = images(3, size)
    both = fit(build(size, map="product", stride=16, bank_size=40, score="max", whiten_floor=None), goods).freeze()
    large = build(size, bank_size=40, whiten_floor=None).freeze()
    state = both.state_dict() | {"small_bank": torch.zeros(0, EMBEDDING)}
    large.load_state_dict(state)
    image = images(1, size, seed=1)
    near = distribute(distances_to(both.encode(both.prepare(image))[1], both.small_bank), SMALL // 16, 1, 5, 6)
    scored = large.score(image)
    assert scored.anomaly_map.shape == (1, 5, 6)
    torch.testing.assert_close(scored.anomaly_map * near, both.score(image).anomaly_map)
    torch.testing.assert_close(scored.score, scored.anomaly_map.flatten(1).sort(1).values[:, -6:].mean(1))  # a fifth of 30


@pytest.mark.parametrize("exposure", ["removed", "kept"])
def test_mean_image_and_scale_are_those_of_the_training_images(exposure):
    size = (64, 80)
    goods = images(5, size)
    goods[0] //= 2  # a darker exposure
    detector = fit(build(size, bank_size=20, exposure=exposure), goods)
    torch.testing.assert_close(detector.mean_image, goods.float().mean(0).permute(2, 0, 1))
    torch.testing.assert_close(detector._centred(detector.prepare(goods)).square().mean(), torch.tensor(1.0))
    assert detector.extract(goods)[0].half().equal(detector.extract(goods)[0])  # a float16 store loses nothing


def test_after_every_epoch_it_can_score_and_the_first_epoch_trains():
    size = (64, 64)
    goods = images(6, size)
    initial = build(size).encoder.state_dict()
    detector = build(size, bank_size=30)
    steps, scores, banks = [], [], []

    def after_epoch(epoch: int) -> bool:
        scores.append(detector.score(images(3, size, seed=1)).score)
        banks.append(detector.large_bank.clone())
        return epoch == 1

    settings = PatchTraining(epochs=5, epoch_steps=0, pairs_per_image=2, batch_size=4, exam_images=3)
    fit(detector, goods, training=settings, seed=0, on_step=steps.append, after_epoch=after_epoch)
    assert [(step.epoch, step.step) for step in steps] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert all(torch.isfinite(score).all() for score in scores)
    assert not torch.equal(scores[0], scores[1])
    assert detector.large_bank.shape == banks[1].shape and not torch.equal(detector.large_bank, banks[1])
    assert any(not torch.equal(value, initial[key]) for key, value in detector.encoder.state_dict().items())


def test_every_pixel_is_seen_where_patches_do_not_fit():
    size = (70, 83)
    detector = fit(build(size, map="product", exposure="kept", bank_size=50), images(3, size)).freeze()
    image = images(1, size, seed=1)
    clean = detector.score(image).anomaly_map
    assert clean.shape == (1, 18, 21) and (clean > 0).all()
    image[:, -2:, -2:] = 255 - image[:, -2:, -2:]
    changed = detector.score(image).anomaly_map != clean
    assert changed[0, -1, -1] and not changed[0, 0, 0]


def test_images_smaller_than_a_patch_are_filled_up():
    size = (32, 48)
    detector = fit(build(size, bank_size=20), images(4, size)).freeze()
    scored = detector.score(images(2, size, seed=1))
    assert torch.isfinite(scored.score).all() and scored.anomaly_map.shape == (2, 2, 3)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="bank_sice"):
        build((64, 64), bank_sice=3)
    with pytest.raises(ValueError, match="patches"):
        PatchTraining.model_validate({"patches": 3})


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_what_freeze_prepares_goes_when_other_weights_are_loaded(precision):
    first, second = (build((64, 64), bank_size=8) for _ in range(2))
    for seed, detector in enumerate((first, second)):
        detector.config = detector.config.model_copy(update={"precision": precision})
        detector.encoder = detector._new_encoder(seed)
        detector.large_bank.normal_(generator=torch.Generator().manual_seed(seed))
        detector.whitening.weight.copy_(torch.eye(EMBEDDING))
        detector.fitted = True
    pictures = images(2, (64, 64))
    expected = second.score(pictures).score
    assert not torch.equal(first.freeze().score(pictures).score, expected)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first.score(pictures).score, expected)
    assert torch.equal(first.freeze().score(pictures).score, expected)
