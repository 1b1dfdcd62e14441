"""Explanations against what the methods' papers say, computed here by hand on networks small enough for it."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam
from tiny_model import BRIEF_MEMBERS
from torch import Tensor, nn

from models import registry
from models.backbones.backbone import Backbone, BackboneConfig
from models.backbones.preprocess import Normalise
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun, Maps, Scored
from models.explain.activations import NotGuided
from models.explain.explainer import Explainer, ExplanationError, layers
from models.explain.flagged import explain_flagged
from models.explain.methods import METHODS
from models.roi.region import RegionOfInterest

SIZE = 32


class Toy(Detector):
    """Score: a weighted sum of pooled features, or of their squares; `levels` of an image pyramid go through `net`."""

    def __init__(self, net: nn.Module, channels: int, linear: bool = True, levels: int = 1):
        super().__init__()
        self.net, self.linear, self.levels = net, linear, levels
        self.weights = nn.Parameter(torch.linspace(-0.5, 1.0, channels))

    def prepare(self, images: Tensor) -> Tensor:
        return Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))(images)

    def features(self, inputs: Tensor) -> Maps:
        return [self.net(F.avg_pool2d(inputs, 2**level) if level else inputs) for level in range(self.levels)]

    def score_features(self, maps: Maps) -> Scored:
        pooled = sum(x.mean((2, 3)) for x in maps)
        score = (pooled if self.linear else pooled.square()) @ self.weights
        return Scored(score, maps[0].square().mean(1), torch.zeros(len(score), 32, dtype=torch.float16))

    def pooled_weights(self) -> Tensor | None:
        return self.weights.detach() if self.linear else None


class Residual(nn.Module):
    """x + conv(relu(x)): the rectifier's input is also the skip connection's."""

    def __init__(self, channels: int, act: nn.Module):
        super().__init__()
        self.act, self.conv = act, nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.act(x))


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def network(act: Any = lambda: nn.ReLU(inplace=True)) -> nn.Sequential:
    torch.manual_seed(0)
    shared = act()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), act(), Residual(8, nn.ReLU()), nn.Conv2d(8, 8, 3, 2, padding=1), shared,
        nn.Conv2d(8, 6, 3, padding=1), shared,
    )  # fmt: skip


def pictures(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


class GuidedRelu(torch.autograd.Function):
    """Guided Backpropagation's rectifier, written out; `limit` as of ReLU6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < limit))
        return x.clamp(0, limit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (open_,) = ctx.saved_tensors
        return gradient.clamp_min(0) * open_, None


class Guided(nn.Module):
    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return GuidedRelu.apply(x, self.limit)


def gradients(detector: Detector, images: Tensor) -> Tensor:
    inputs = detector.prepare(images).detach().requires_grad_()
    score = detector.score_features(detector.features(inputs)).score
    return torch.autograd.grad(score.sum(), inputs)[0]


def guided_gradients(detector: Detector, images: Tensor) -> Tensor:
    detector = copy.deepcopy(detector)
    for name, module in list(detector.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU | nn.ReLU6):
            detector.set_submodule(name, Guided(6.0 if isinstance(module, nn.ReLU6) else float("inf")))
    return gradients(detector, images)


def grad_cam(detector: Toy, images: Tensor, layer: nn.Module) -> Tensor:
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()) or seen[-1].clone())
    score = detector.score_features(detector.features(detector.prepare(images).requires_grad_())).score
    handle.remove()
    total = torch.zeros(len(images), SIZE, SIZE)
    for maps, gradient in zip(seen, torch.autograd.grad(score.sum(), seen), strict=True):
        cells = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
        total += F.interpolate(cells, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    return total.detach()


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, lambda: nn.ReLU6(inplace=True)])
@pytest.mark.parametrize("levels", [1, 3])
def test_gradients_and_guided_backpropagation(act: Any, levels: int) -> None:
    detector = Toy(network(act), 6, linear=False, levels=levels)
    with torch.no_grad():
        detector.net[0].weight *= 20  # far enough for the upper limit of ReLU6
    images = pictures()
    explainer = Explainer(detector)
    torch.testing.assert_close(explainer(images, "gradient"), gradients(detector, images).abs().amax(1))
    expected = guided_gradients(detector, images)
    torch.testing.assert_close(explainer(images, "guided_backprop"), expected.abs().amax(1))
    assert not torch.allclose(expected.abs(), gradients(detector, images).abs())
    # Guided from here on, the score and its gradient are still the detector's own.
    torch.testing.assert_close(explainer(images, "gradient"), gradients(detector, images).abs().amax(1))


@pytest.mark.parametrize("levels", [1, 3])
def test_grad_cam_of_any_layer_and_guided_grad_cam(levels: int) -> None:
    detector = Toy(network(), 6, linear=False, levels=levels)
    images = pictures()
    assert {"net.0", "net.2.conv", "net.4"} <= set(layers(detector))
    for name in ("net.0", "net.2", "net.2.conv", "net.3"):
        expected = grad_cam(detector, images, detector.get_submodule(name))
        explainer = Explainer(detector, name)
        torch.testing.assert_close(explainer(images, "grad_cam"), expected)
        found = guided_gradients(detector, images) * expected[:, None]
        torch.testing.assert_close(explainer(images, "guided_grad_cam"), found.abs().amax(1))
        assert expected.amax() > 0
    if levels == 1:  # the deepest tap is what features gives; of several levels the coarsest
        torch.testing.assert_close(Explainer(detector)(images, "grad_cam"), grad_cam(detector, images, detector.net))


class Score(nn.Module):
    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, inputs: Tensor) -> Tensor:
        return self.detector.score_features(self.detector.features(inputs)).score


def test_guided_grad_cam_is_captums_where_the_layer_runs_once() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, padding=1), nn.ReLU())
    detector = Toy(net, 6, linear=False).requires_grad_(False)
    images = pictures(1)
    inputs = detector.prepare(images).requires_grad_()
    with pytest.warns(UserWarning, match="backward hooks"):
        found = GuidedGradCam(Score(detector), net[2]).attribute(inputs, interpolate_mode="bilinear").abs().amax(1)
    torch.testing.assert_close(Explainer(detector, "net.2")(images, "guided_grad_cam"), found.detach())


class Copies(Toy):
    """A backbone that looks at the image, at a quarter turn of it and at half its size."""

    def __init__(self, downscale: str):
        super().__init__(Backbone(network(), ("3",)), 8, linear=False)
        self.downscale = downscale

    def features(self, inputs: Tensor) -> Maps:
        half = F.interpolate(inputs, scale_factor=0.5, mode=self.downscale)
        return [self.net(x)[0] for x in (inputs, inputs.rot90(1, (2, 3)), half)]


def test_maps_of_turned_and_smaller_copies_are_brought_back() -> None:
    detector = Copies("area")
    images = pictures(1)
    seen = detector.features(detector.prepare(images).requires_grad_())
    score = detector.score_features(seen).score
    expected = torch.zeros(1, 1, SIZE, SIZE)
    for i, (maps, gradient) in enumerate(zip(seen, torch.autograd.grad(score.sum(), seen), strict=True)):
        cells = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)).detach()
        size = SIZE // 2 if i == 2 else SIZE
        cells = F.interpolate(cells, size=(size, size), mode="bilinear", align_corners=False)
        expected += (cells, cells.rot90(-1, (2, 3)), F.interpolate(cells, size=(SIZE, SIZE)))[i]
    torch.testing.assert_close(Explainer(detector)(images, "grad_cam"), expected[:, 0])
    torch.testing.assert_close(Explainer(detector, "3")(images, "grad_cam"), expected[:, 0])
    # Three of four pixels never reach a copy that leaves pixels out; of a smooth image its map has no holes there either.
    ramp = torch.linspace(0, 255, SIZE).to(torch.uint8)[None, :, None, None].expand(1, SIZE, SIZE, 3)  # (1, H, W, 3)
    whole, skipping = (Explainer(Copies(downscale))(ramp, "grad_cam") for downscale in ("area", "nearest"))
    assert (skipping - whole).abs().mean() < 0.1 * whole.mean()


def test_cam_is_grad_cam_without_its_rectifier_up_to_a_constant() -> None:
    detector = Toy(network(), 6)
    images = pictures()
    cells = torch.einsum("c,bchw->bhw", detector.weights, detector.features(detector.prepare(images))[0])
    cells = cells.detach()
    found = Explainer(detector)(images, "cam")
    small = F.interpolate(cells[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, small)
    rectified = F.interpolate(F.relu(cells)[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    places = cells.shape[1] * cells.shape[2]
    torch.testing.assert_close(Explainer(detector)(images, "grad_cam") * places, rectified)


def test_methods_that_are_not_defined_say_so() -> None:
    image = pictures(1)[0]
    faults = Explainer(Toy(network(), 6, linear=False)).check(image)
    assert list(faults) == ["cam"] and "Use grad_cam" in faults["cam"]
    for act, name in ((nn.SiLU, "SiLU"), (nn.GELU, "GELU"), (nn.Hardswish, "Hardswish"), (nn.LeakyReLU, "LeakyReLU")):
        faults = Explainer(Toy(network(act), 6)).check(image)
        assert list(faults) == ["guided_backprop", "guided_grad_cam"]
        assert f"got {name}. Use gradient or grad_cam" in faults["guided_backprop"]
    with pytest.raises(NotGuided, match="must call its ReLUs as modules"):
        Explainer(Toy(network(Functional), 6))(image[None], "guided_backprop")

    class Two(Toy):
        def features(self, inputs: Tensor) -> Maps:
            return super().features(inputs) * 2

    with pytest.raises(ExplanationError, match="one weight a channel of the only level"):
        Explainer(Two(network(), 6))(image[None], "cam")

    class Counts(Toy):
        def features(self, inputs: Tensor) -> Maps:
            return [(x > 0).float() for x in super().features(inputs)]

    with pytest.raises(ExplanationError, match="needs gradients"):
        Explainer(Counts(network(), 6))(image[None], "gradient")


def test_a_layer_must_exist_and_give_maps() -> None:
    image = pictures(1)
    with pytest.raises(ExplanationError, match="got 'net.2.con'. Near names: net.2.conv"):
        Explainer(Toy(network(), 6), "net.2.con")
    detector = Toy(network(), 6)
    detector.extra = nn.Conv2d(3, 3, 1)
    with pytest.raises(ExplanationError, match="'extra' is not run"):
        Explainer(detector, "extra")(image, "grad_cam")
    flat = Toy(nn.Sequential(network(), nn.Flatten(2), nn.Unflatten(2, (16, 16))), 6)
    with pytest.raises(ExplanationError, match=r"'net.1' gives \(1, 6, 256\)"):
        Explainer(flat, "net.1")(image, "grad_cam")


def csflow(name: str = "mobilenetv1_100", size: int = 64, **backbone: Any) -> Detector:
    config = ArtifactConfig(
        name="t",
        input=InputConfig(height=size, width=size),
        backbone=BackboneConfig(name=name, weights="none", **backbone),
        hyperparameters={"whiten_dims": 8, "hidden": 8, "kernels": [3, 3]},
    )
    detector = registry.build(config)
    generator = torch.Generator().manual_seed(0)
    for key, value in detector.state_dict().items():
        if key.endswith("gamma") or key == "whitening.weight":
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    detector.fitted = True  # by hand, as it were
    return detector.freeze()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenetv1_100", {}),
        ("mobilenetv1_100", {"fold_batch_norms": False, "taps": ("blocks.1", "blocks.2")}),
        ("resnet18", {"taps": (0, 2)}),
    ],
)
def test_a_frozen_detector_on_a_timm_backbone(name: str, settings: dict[str, Any]) -> None:
    detector = csflow(name, **settings)
    images = pictures(2, 64)
    before = detector.score(images)
    explainer = Explainer(detector)
    assert list(explainer.check(images[0])) == ["cam"]
    torch.testing.assert_close(explainer(images, "gradient"), gradients(detector, images).abs().amax(1))
    torch.testing.assert_close(explainer(images, "guided_backprop"), guided_gradients(detector, images).abs().amax(1))
    with torch.inference_mode():
        assert torch.equal(explainer(images.clone(), "grad_cam"), explainer(images, "grad_cam"))
    for method in METHODS[:-1]:
        both = explainer(images, method)
        assert both.shape == (2, 64, 64) and both.dtype == torch.float32 and both.amin() >= 0 and both.amax() > 0
        torch.testing.assert_close(explainer(images[1:], method), both[1:], rtol=0, atol=0)
    for part, again in zip(before, detector.score(images), strict=True):
        assert torch.equal(part, again)
    known = layers(detector)
    shallow = "blocks.0.0" if name.startswith("mobile") else "layer1.0.conv1"
    assert shallow in known
    assert Explainer(detector, shallow)(images, "grad_cam").shape == (2, 64, 64)


def test_the_deepest_tap_is_the_default_layer() -> None:
    detector = csflow(taps=("blocks.1", "blocks.2"))
    images = pictures(1, 64)
    named = Explainer(detector, "blocks.2")(images, "grad_cam")
    torch.testing.assert_close(Explainer(detector)(images, "grad_cam"), named)
    assert not torch.allclose(Explainer(detector, "blocks.1")(images, "grad_cam"), named)


def test_a_layer_that_only_the_head_reads_is_neither_the_default_nor_explained() -> None:
    """Its part in the score is nothing until held-out images have weighed it."""
    detector = csflow(taps=("blocks.3",))
    assert "blocks.4.0" in detector.config.hyperparameters["head"]["taps"]
    images = pictures(1, 64)
    torch.testing.assert_close(Explainer(detector)(images, "grad_cam"), Explainer(detector, "blocks.3")(images, "grad_cam"))
    with pytest.raises(ExplanationError, match="one that the score depends on; 'blocks.4.0' is read for the map alone"):
        Explainer(detector, "blocks.4.0")(images, "grad_cam")


def test_a_transformer_is_explained_by_the_maps_of_its_tap() -> None:
    detector = csflow("vit_tiny_patch16_224", 64, kwargs={"img_size": 64, "dynamic_img_size": True}, taps=(3,))
    images = pictures(1, 64)
    faults = Explainer(detector).check(images[0])
    assert list(faults) == ["guided_backprop", "guided_grad_cam", "cam"]
    assert Explainer(detector)(images, "grad_cam").shape == (1, 64, 64)
    with pytest.raises(ExplanationError, match="must give maps"):
        Explainer(detector, "blocks.2")(images, "grad_cam")


class InMemory:
    def __init__(self, detector: Detector, images: Tensor):
        self.maps = detector.extract(images)

    def read(self, positions: Tensor) -> Maps:
        return [x[positions] for x in self.maps]


@pytest.mark.parametrize("name", registry.names())
def test_every_detector_can_be_explained(name: str) -> None:
    config = ArtifactConfig(
        name="t",
        detector=name,
        input=InputConfig(height=64, width=64),
        backbone=BackboneConfig(name="test_resnet", weights="none"),
        hyperparameters=BRIEF_MEMBERS if name == "ensemble" else {},
    )
    detector = registry.build(config)
    brief = {"epochs": 1, "epoch_steps": 0}
    settings = {name: value for name, value in brief.items() if name in detector.Training.model_fields}
    detector.fit(InMemory(detector, pictures(12, 64)), torch.arange(12), FitRun(detector.Training(**settings), 0))
    explainer = Explainer(detector.freeze())
    image = pictures(13, 64)[12]
    faults = explainer.check(image)
    pixels_only = {"guided_backprop": "got LeakyReLU", "grad_cam": "layer must be given", "guided_grad_cam": "LeakyReLU"}
    expected = {"cam": "linear in pooled features"} | (pixels_only if detector.config.backbone is None else {})
    assert set(faults) == set(expected) and all(part in faults[method] for method, part in expected.items())
    for method in METHODS:
        if method not in faults:
            found = explainer(image[None], method)
            assert found.shape == (1, 64, 64) and bool(torch.isfinite(found).all()) and found.amax() > 0


def test_only_flagged_images_are_explained() -> None:
    detector = Toy(network(), 6)
    explainer = Explainer(detector)
    images = pictures(3)
    maps = torch.zeros(3, 4, 4)
    maps[1, 2, 3], maps[2, 0, 0] = 1.5, 1.0
    scored = Scored(torch.tensor([5.0, 1.0, 2.0]), maps, torch.zeros(3, 32, dtype=torch.float16))
    found = explain_flagged(explainer, images, scored, 1.0, "grad_cam")
    assert found.positions.tolist() == [1] and found.maps.shape == (1, 4, 4)
    expected = F.avg_pool2d(explainer(images[1:2], "grad_cam"), SIZE // 4)
    torch.testing.assert_close(found.maps, expected)
    none = explain_flagged(explainer, images, scored, 2.0, "grad_cam")
    assert none.positions.tolist() == [] and none.maps.shape == (0, 4, 4)
    unknown = scored._replace(score=torch.tensor([5.0, float("nan"), 2.0]))
    assert explain_flagged(explainer, images, unknown, 1.0, "grad_cam").positions.tolist() == []


def test_no_pixel_outside_the_region_of_interest_is_relevant():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[16:40, 8:56] = True
    size, few = InputConfig(height=64, width=64, roi=RegionOfInterest.of(mask.numpy())), {"whiten_dims": 4, "hidden": 4}
    backbone = BackboneConfig(name="test_resnet", taps=("layer2",), weights="none")
    config = ArtifactConfig(name="tile", input=size, backbone=backbone, hyperparameters={**few, "kernels": [3]})
    detector, images = registry.build(config), torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    detector.whitening.weight.normal_()
    for method in ("gradient", "grad_cam"):
        found = Explainer(detector)(images, method)[0]
        assert found[mask].any() and not found[~mask].any(), method
