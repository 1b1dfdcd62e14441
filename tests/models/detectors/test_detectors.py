"""Every detector through the contract; a file in models/detectors is picked up without a change here."""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_stand_in import Crossings, stand_in
from layout_changes import LayoutChanges
from tiny_model import BRIEF_MEMBERS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from models import artifact, registry
from models.alterations.light import LightField, lit
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun, NotFitted, WrongImages
from models.features.variation import NoVariation

BACKBONE = BackboneConfig(name="test_resnet", weights="none")
SIZES = [(64, 64), (64, 96)]
PRECISIONS = ["float32", "bf16", "fp16"]
GOODS = 12


class InMemory:
    """Features of a few images, computed once."""

    def __init__(self, detector: Detector, images: Tensor):
        self.maps = detector.extract(images)

    def read(self, positions: Tensor) -> list[Tensor]:
        return [x[positions] for x in self.maps]


def build(name: str, size: tuple[int, int] = SIZES[0], precision: str = "float32", **fields) -> Detector:
    config = {
        "name": "tiny",
        "detector": name,
        "backbone": BACKBONE,
        "input": InputConfig(height=size[0], width=size[1]),
        "precision": precision,
        "batch_size": 4,
        "hyperparameters": BRIEF_MEMBERS if name == "ensemble" else {},
    }
    return registry.build(ArtifactConfig(**(config | fields)))


def fit(detector: Detector, images: Tensor, seed: int = 0) -> Detector:
    brief = {"epochs": 1, "epoch_steps": 0}
    settings = {name: value for name, value in brief.items() if name in detector.Training.model_fields}
    run = FitRun(detector.Training(**settings), seed)
    detector.fit(InMemory(detector, images), torch.arange(len(images)), run)
    return detector


@functools.cache
def _fitted(name: str, size: tuple[int, int], precision: str, **fields) -> Detector:
    return fit(build(name, size, precision, **fields), photographs(GOODS, size, seed=1))


def fitted(name: str, size: tuple[int, int] = SIZES[0], precision: str = "float32", **fields) -> Detector:
    """A copy of its own of a detector that was fitted once to a few drawn images."""
    return copy.deepcopy(_fitted(name, size, precision, **fields))


def photographs(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(N, H, W, 3) uint8: smooth coloured blobs with grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic") * 180 + 40
    grain = 12 * torch.randn(count, 3, *size, generator=generator)
    return (smooth + grain).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3)


@pytest.fixture(params=registry.names())
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shapes_and_types(name, size, precision):
    detector = fitted(name, size, precision).freeze()
    scored = detector.score(photographs(6, size))
    rows, columns = detector.config.map_height, detector.config.map_width
    assert scored.score.shape == (6,) and scored.score.dtype == torch.float32
    assert scored.anomaly_map.shape == (6, rows, columns) and scored.anomaly_map.dtype == torch.float32
    assert scored.embedding.shape == (6, 32) and scored.embedding.dtype == torch.float16
    assert all(torch.isfinite(part).all() for part in scored)
    assert len(set(scored.score.tolist())) == 6
    assert (rows < columns) == (size[0] < size[1])


def test_the_map_has_the_size_asked_for(name):
    scored = fitted(name, map_height=5, map_width=9).freeze().score(photographs(2, SIZES[0]))
    assert scored.anomaly_map.shape == (2, 5, 9)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_score_does_not_depend_on_the_batch(name, precision):
    """Bit for bit: alone, in any slot, beside any others, whatever the number of images; and twice the same."""
    detector = fitted(name, precision=precision).freeze()
    images = photographs(9, SIZES[0])
    together = detector.score(images)
    order = torch.tensor([8, 3, 0, 7, 1, 6, 2, 5, 4])
    shuffled = detector.score(images[order])
    for part, other, again in zip(together, shuffled, detector.score(images), strict=True):
        assert torch.equal(part[order], other)
        assert torch.equal(part, again)
    for i in (0, 5):
        for part, other in zip(together, detector.score(images[i : i + 1]), strict=True):
            assert torch.equal(part[i : i + 1], other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_batch_size_hardly_matters(name, precision):
    images = photographs(6, SIZES[0])
    first = fitted(name, precision=precision)
    scores = []
    for size in (1, 8):
        other = build(name, precision=precision, batch_size=size)
        other.load_state_dict(first.state_dict())
        scores.append(other.freeze().score(images).score)
    torch.testing.assert_close(*scores, rtol=1e-5 if precision == "float32" else 1e-3, atol=0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_saved_and_loaded_scores_are_the_same_bits(name, precision, tmp_path):
    detector = fitted(name, SIZES[1], precision)
    images = photographs(5, SIZES[1])
    saved = artifact.save(tmp_path / "model", detector.config, detector, "# Card\n")
    before = detector.freeze().score(images)
    for loaded in (artifact.load(saved), artifact.load(artifact.read(tmp_path / "model"))):
        for part, other in zip(before, loaded.score(images), strict=True):
            assert torch.equal(part, other)


def test_another_fit_has_another_digest_and_the_same_fit_the_same(name, tmp_path):
    images = photographs(GOODS, SIZES[0], seed=1)
    digests = []
    for number, chosen in enumerate((images, images, images[2:])):
        detector = fit(build(name), chosen)
        digests.append(artifact.save(tmp_path / str(number), detector.config, detector, "# Card\n").model_digest)
    assert digests[0] == digests[1] != digests[2]


def test_fitting_starts_from_scratch(name):
    first, second = photographs(GOODS, SIZES[0], seed=1), photographs(GOODS, SIZES[0], seed=2)
    alone, after = fit(build(name), second), fit(fit(build(name), first), second)
    ones, others = alone.state_dict(), after.state_dict()
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[key], others[key]) for key in ones)


@pytest.mark.parametrize("frozen", [False, True])
def test_no_tensor_is_left_behind_when_it_moves_to_another_device(name, frozen):
    detector = fitted(name)
    detector = (detector.freeze() if frozen else detector).to("meta")
    held = [
        (type(module).__name__, key)
        for module in detector.modules()
        for key, value in vars(module).items()
        for tensor in _tensors(value)
        if tensor.device.type != "meta"
    ]
    assert not held


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return [tensor for part in value.values() for tensor in _tensors(part)] if isinstance(value, dict) else []


@torch.no_grad()
def stirred(detector: Detector) -> None:
    """Moves the head's weights: a flow that was trained for a few steps gives what any such flow gives."""
    generator = torch.Generator().manual_seed(3)
    for key, parameter in detector.named_parameters():
        if not key.startswith("backbone"):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_frozen_detector_takes_over_another_state(name, precision):
    """What freeze prepared of the old weights is not used again."""
    images = photographs(4, SIZES[0])
    detector, other = fitted(name, precision=precision).freeze(), build(name, precision=precision)
    fit(other, photographs(GOODS, SIZES[0], seed=2), seed=7)
    stirred(other)
    before, expected = detector.score(images).score, copy.deepcopy(other).freeze().score(images)
    detector.load_state_dict(other.state_dict())
    rtol = 1e-4 if precision == "float32" else 1e-3  # until freeze, kernels have another layout
    torch.testing.assert_close(detector.score(images).score, expected.score, rtol=rtol, atol=0)
    for part, again in zip(expected, detector.freeze().score(images), strict=True):
        assert torch.equal(part, again)
    assert not torch.allclose(before, expected.score, rtol=1e-3)


def test_shading_correction_takes_a_gradient_of_light_from_what_it_reads(name):
    even = photographs(2, SIZES[1])
    other = torch.from_numpy(np.stack([lit(image, LightField(gradient=0.4, angle=1.0)) for image in even.numpy()]))
    size = InputConfig(height=SIZES[1][0], width=SIZES[1][1])
    apart = []
    for config in (size, size.model_copy(update={"shading_correction": True})):
        detector = build(name, input=config)
        maps = [detector.extract(images) for images in (even, other)]
        apart.append(sum((a - b).square().mean() / a.square().mean() for a, b in zip(*maps, strict=True)))
    assert apart[1] < apart[0] / 4


def test_a_detector_that_was_not_fitted_does_not_score(name):
    detector, images = build(name), photographs(1, SIZES[0])
    with pytest.raises(NotFitted, match="must be fitted before it scores; got a fresh one"):
        detector.freeze().score(images)
    detector.load_state_dict(_fitted(name, SIZES[0], "float32").state_dict())
    assert detector.score(images).score != 0
    assert copy.deepcopy(detector).fitted


def test_images_of_another_size_are_refused(name):
    detector = fitted(name).freeze()
    for shape in ((2, 64, 96, 3), (2, 96, 64, 3), (2, 32, 32, 3), (2, 64, 64, 1), (2, 3, 64, 64)):
        for call in (detector.score, detector.extract):
            with pytest.raises(WrongImages, match=r"must be \(N, 64, 64, 3\) uint8, .*; got \(\d, "):
                call(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(WrongImages, match="got .* float32"):
        detector.score(torch.zeros(2, 64, 64, 3))


@pytest.mark.parametrize("kind", ["grey", "black", "copies"])
def test_images_that_are_all_alike_are_no_training_images(name, kind):
    one = {"grey": torch.full((64, 64, 3), 128), "black": torch.zeros(64, 64, 3), "copies": photographs(1, SIZES[0])[0]}
    detector = build(name)
    with pytest.raises(NoVariation, match="training images must differ; all of them have the same features"):
        fit(detector, one[kind].to(torch.uint8).repeat(GOODS, 1, 1, 1))
    assert not detector.fitted


def test_an_embedding_is_finite_however_far_an_image_is_from_the_good_ones(name):
    """An infinite one would spoil the drift chart's means; the score says what is to be said."""
    detector = fitted(name)
    weight = {"padim": "gaussian.factor", "ensemble": "members.0.whitening"}.get(name, "whitening")
    for key, value in detector.state_dict().items():
        if key.startswith(weight):
            value.mul_(1e7)
    scored = detector.freeze().score(photographs(2, SIZES[0]))
    largest = scored.embedding.abs().max()
    assert torch.isfinite(scored.embedding).all()
    assert largest <= 1 if name == "patchcore" else largest > 60_000  # its features have length 1


POSITIVE = [
    *((name, {}) for name in registry.names()),
    ("csflow", {"map": "energy", "head": None, "score": "top"}),
    ("csflow", {"score": "scales"}),
    ("fastflow", {"map": "energy", "head": None, "score": "max"}),
    ("fastflow", {"map": "likelihood", "head": None, "score": "max"}),
    ("differnet", {"map": "gradient", "head": None}),
    ("cflow", {"map": "likelihood", "score": "max"}),
]


@pytest.mark.parametrize(("name", "hyperparameters"), POSITIVE)
def test_what_is_called_positive_is_never_negative(name, hyperparameters):
    """An ensemble takes its logarithm."""
    fields = {"hyperparameters": hyperparameters} if hyperparameters else {}
    detector = fit(build(name, **fields), photographs(GOODS, SIZES[0], seed=1)).freeze()
    scored = detector.score(torch.cat([photographs(6, SIZES[0], seed=3), photographs(6, SIZES[0], seed=1)]))
    assert not detector.positive.score or scored.score.min() > 0
    assert not detector.positive.map or scored.anomaly_map.min() >= 0


def test_building_twice_gives_the_same_weights(name):
    first, second = (build(name).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_features_that_are_not_finite_give_no_number(name, monkeypatch):
    detector = fitted(name).freeze()
    images = photographs(3, SIZES[0])
    clean = detector.score(images).score
    features = type(detector).features

    def poisoned(self, inputs):
        maps = features(self, inputs)
        maps[0][1, 0, 0, 0] = float("nan")
        maps[-1][2, 0, 0, 0] = float("inf")
        return maps

    monkeypatch.setattr(type(detector), "features", poisoned)
    score = detector.score(images).score
    assert score.isnan().tolist() == [False, True, True]
    assert torch.equal(score[0], clean[0])


def test_fp16_scores_are_close_to_those_of_float32(name):
    exact, half = fitted(name), build(name, precision="fp16")
    half.load_state_dict(exact.state_dict())
    images = photographs(6, SIZES[0])
    ones, others = (detector.freeze().score(images) for detector in (exact, half))
    assert not torch.equal(ones.score, others.score)
    torch.testing.assert_close(others.score, ones.score, rtol=1e-2, atol=0)  # images unlike the twelve of the fit


def test_scores_have_gradients_for_explanations(name):
    detector = fitted(name).freeze()
    inputs = detector.prepare(photographs(2, SIZES[0])).requires_grad_()
    (gradient,) = torch.autograd.grad(detector.score_features(detector.features(inputs)).score.sum(), inputs)
    assert torch.isfinite(gradient).all() and (gradient.flatten(1).abs().amax(1) > 0).all()


def test_another_kind_of_image_scores_above_the_good_ones(name):
    """Drawn surfaces here; real tiles and photographs in test_detectors_on_tiles.py."""
    detector = fitted(name).freeze()
    goods = detector.score(photographs(8, SIZES[0], seed=1)).score
    checks = (torch.arange(64)[:, None] // 4 + torch.arange(64) // 4) % 2 * 255
    board = checks.to(torch.uint8)[None, :, :, None].expand(1, 64, 64, 3).contiguous()  # (1, H, W, 3)
    assert detector.score(board).score[0] > goods.max()


def test_a_detector_without_a_file_is_refused():
    with pytest.raises(ValueError, match="detector must be one of .*csflow.*; got 'nix'"):
        registry.build(ArtifactConfig(name="tiny", detector="nix"))


@pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast is off then: what it would cast, it casts on the device
@pytest.mark.parametrize("shading", [False, True])
def test_a_cuda_graph_can_hold_the_scoring(name, shading, monkeypatch):
    """Nothing of it waits for the device or copies from the host."""
    size = InputConfig(height=SIZES[0][0], width=SIZES[0][1], shading_correction=shading)
    detector, images = fitted(name, precision="bf16", input=size), photographs(4, SIZES[0])
    # autograd's engine wants a real device. It launches kernels as a forward pass does.
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs: (torch.zeros_like(inputs),))
    with stand_in():
        detector.to("cuda").freeze()
        on_device = torch.empty(images.shape, dtype=torch.uint8, device="cuda")
        with Crossings() as crossings:
            scored = detector.score(on_device)
    assert crossings.found == []
    assert {part.device.type for part in scored} == {"cuda"} and [len(part) for part in scored] == [4] * 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_scored_batch_copies_no_map_into_another_layout(name, precision):
    detector, images = fitted(name, precision=precision).freeze(), photographs(4, SIZES[0])
    with LayoutChanges() as changes:
        detector.score(images)
    assert changes.found == [] and changes.maps > 10


@pytest.mark.parametrize("copy", [lambda x: x.index_select(1, torch.arange(3)), lambda x: x.contiguous()])
def test_a_copied_layout_is_noticed(copy):
    x = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    with torch.inference_mode(), LayoutChanges() as changes:
        copy(x)
    assert len(changes.found) == 1


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_the_stand_in_notices_what_a_cuda_graph_cannot_hold():
    with stand_in():
        x = torch.zeros(3, device="cuda")
        with pytest.raises(DataDependentOutputException):
            float(x.sum())
        with pytest.raises(DynamicOutputShapeException):
            x.nonzero()
        with Crossings() as crossings:
            torch.tensor([1.0], device="cuda")
        assert len(crossings.found) == 1 and Path(__file__).name in crossings.found[0]


@pytest.mark.parametrize("detector", ["csflow", "fastflow", "padim"])
def test_the_compiler_takes_the_scoring_as_one_graph(detector):
    """docs/benchmarks/gpu measures TorchInductor beside our CUDA graphs."""
    frozen, images = fitted(detector, precision="fp16").freeze(), photographs(4, SIZES[0])
    with torch.inference_mode():
        compiled = torch.compile(frozen.score, backend="eager", fullgraph=True)(images)
        assert all(torch.equal(a, b) for a, b in zip(compiled, frozen.score(images), strict=True))
