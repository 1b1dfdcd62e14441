"""Every detector through the contract; a file in models/detectors is picked up without a change here."""

import math

import pytest
import torch

from models import artifact, registry
from models.backbones import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector

BACKBONE = BackboneConfig(name="test_resnet", taps=("layer2",), weights="none")
SIZES = [(64, 64), (48, 80)]
PRECISIONS = ["float32", "bf16"]


def make(name: str, size: tuple[int, int] = SIZES[0], precision: str = "float32", **fields) -> Detector:
    """A detector whose trained parts are random: weights around 0, vectors (which may be variances) positive."""
    config = ArtifactConfig(
        name="tiny",
        detector=name,
        backbone=BACKBONE,
        input=InputConfig(height=size[0], width=size[1]),
        precision=precision,
        **({"batch_size": 4} | fields),
    )
    detector = registry.build(config)
    generator = torch.Generator().manual_seed(0)
    for key, tensor in sorted(detector.state_dict().items()):
        if tensor.is_floating_point() and not key.startswith("backbone."):
            values = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            weights = tensor.ndim > 1 and tensor.dtype == torch.float32
            tensor.copy_((2 * values - 1) * math.sqrt(3 / tensor[0].numel()) if weights else 0.9 * values + 0.1)
    return detector


def photographs(count: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(size[0] // 8, 1).repeat_interleave(size[1] // 8, 2)


@pytest.fixture(params=registry.names())
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shapes_and_types(name, size, precision):
    detector = make(name, size, precision).freeze()
    scored = detector.score(photographs(6, size))
    rows, columns = detector.config.map_height, detector.config.map_width
    assert scored.score.shape == (6,) and scored.score.dtype == torch.float32
    assert scored.anomaly_map.shape == (6, rows, columns) and scored.anomaly_map.dtype == torch.float32
    assert scored.embedding.shape == (6, 32) and scored.embedding.dtype == torch.float16
    assert all(torch.isfinite(part).all() for part in scored)
    assert len(set(scored.score.tolist())) == 6
    assert (rows < columns) == (size[0] < size[1])


def test_the_map_has_the_size_asked_for(name):
    scored = make(name, map_height=5, map_width=9).freeze().score(photographs(2, SIZES[0]))
    assert scored.anomaly_map.shape == (2, 5, 9)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_score_does_not_depend_on_the_batch(name, precision):
    """Bit for bit: alone, in any slot, beside any others, whatever the number of images."""
    detector = make(name, precision=precision).freeze()
    images = photographs(9, SIZES[0])
    together = detector.score(images)
    order = torch.tensor([8, 3, 0, 7, 1, 6, 2, 5, 4])
    shuffled = detector.score(images[order])
    for part, other in zip(together, shuffled, strict=True):
        assert torch.equal(part[order], other)
    for i in (0, 5):
        for part, other in zip(together, detector.score(images[i : i + 1]), strict=True):
            assert torch.equal(part[i : i + 1], other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_batch_size_hardly_matters(name, precision):
    images = photographs(6, SIZES[0])
    small, large = (make(name, precision=precision, batch_size=n).freeze().score(images) for n in (1, 8))
    torch.testing.assert_close(small.score, large.score, rtol=1e-6 if precision == "float32" else 1e-3, atol=0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_saved_and_loaded_scores_are_the_same_bits(name, precision, tmp_path):
    detector = make(name, SIZES[1], precision)
    images = photographs(5, SIZES[1])
    saved = artifact.save(tmp_path / "model", detector.config, detector, "# Card\n")
    before = detector.score(images)
    for loaded in (artifact.load(saved), artifact.load(artifact.read(tmp_path / "model"))):
        for part, other in zip(before, loaded.score(images), strict=True):
            assert torch.equal(part, other)


def test_the_state_dict_holds_all_that_scores_depend_on(name):
    first, other = make(name), make(name)
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(0.9)
    other.load_state_dict(first.state_dict())
    images = photographs(3, SIZES[0])
    assert torch.equal(first.freeze().score(images).score, other.freeze().score(images).score)


def test_building_twice_gives_the_same_weights(name):
    first, second = (make(name).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_features_that_are_not_finite_give_no_number(name):
    detector = make(name)
    for key, tensor in detector.state_dict().items():
        if key.startswith("backbone.") and tensor.ndim == 4:
            tensor[0, 0, 0, 0] = float("inf")
            break
    assert detector.freeze().score(photographs(2, SIZES[0])).score.isnan().all()


def test_a_detector_without_a_file_is_refused():
    with pytest.raises(ValueError, match="detector must be one of .*csflow.*; got 'nix'"):
        registry.build(ArtifactConfig(name="tiny", detector="nix"))
