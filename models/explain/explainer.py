"""Explains an image's anomaly score: gradients give maps of how much each place of the input matters.

The methods are captum's if it has them. The score as a function of the normalised input is
score_features(features(inputs)).score. A detector is explained in float32, whatever precision it scores in.
"""

import copy
import difflib
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam, Saliency
from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.detector import Detector
from models.explain.activations import NotGuided, guide_only, separate_rectifiers
from models.explain.methods import METHODS, Method
from models.faults import ModelError
from models.features.extractor import FeatureExtractor
from models.maps.grids import Maps, resized
from models.roi.cells import Cells

DEEPEST = "deepest tap"
NEAR_PX = 9
EPSILON = 1e-6


class ExplanationError(ModelError):
    """A method or layer is not defined for this detector; the message says what to use instead."""


class Explainer:
    """Explains one detector. It works on a copy: the detector itself can go on scoring.

    Images are explained one at a time, so that the calls of a layer are the levels of an image pyramid, never parts of
    a batch, and an image's map never depends on the others.

    gradient: |dS/dx|, the largest of the channels (Simonyan et al. 2014, arXiv:1312.6034). It is not multiplied by the
        input, whose zero is only the mean colour of the backbone's training images.
    guided_backprop: the same with negative gradients cut off at every ReLU of the backbone (Springenberg et al. 2015,
        arXiv:1412.6806). Gradients in the head stay plain: a flow's score rises on both sides of the mean, so the sign
        there does not tell evidence for from evidence against.
    grad_cam: ReLU(sum_c a_c A_c), a_c the mean over places of dS/dA_c, of one layer's maps A (Selvaraju et al. 2017,
        arXiv:1610.02391, eq. 1 and 2), enlarged bilinearly. A layer that runs several times, on the levels of a pyramid or
        on turned copies, has one map per run. Each map is brought back to the place it saw, costs a pass, and is added up.
    guided_grad_cam: guided_backprop, with its signs, times grad_cam.
    cam: sum_c w_c A_c, signed, for a score that is b + sum_c w_c mean(A_c), A the only level of `features` (Zhou et al.
        2016, arXiv:1512.04150). Such a detector has a method pooled_weights() -> (C,) float32 or None.

    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> Explainer(detector)(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), "gradient").shape
    torch.Size([1, 64, 64])
    """

    def __init__(self, detector: Detector, layer: str | None = None):
        """Args:
        detector: in float32. layer: name of a backbone's module, for the CAM methods; None takes the deepest tap.
        Raises:
            ExplanationError: the layer does not exist.
        """
        known = layers(detector)
        if layer is not None and layer not in known:
            near = difflib.get_close_matches(layer, known, n=6) or [name for name in known if name.count(".") <= 1][:12]
            raise ExplanationError(f"layer must be one of the backbone's; got {layer!r}. Near names: {', '.join(near)}.")
        self._model = _Score(copy.deepcopy(detector).eval().requires_grad_(False))
        separate_rectifiers(self._model)
        self._guided = False
        # The part is the backbone, or the whole model if the detector has no timm backbone.
        self._part: nn.Module = _backbone(self._detector) or self._model
        self.layer = layer or DEEPEST
        self._taps = _taps(self._detector)
        self._module = layers(self._detector)[layer] if layer else _backbone(self._detector) or self._model.features

    @property
    def _detector(self) -> Detector:
        return self._model.features.detector

    def check(self, image: Tensor, methods: tuple[Method, ...] = METHODS) -> dict[Method, str]:
        """The methods that are not defined for the detector, each with a full sentence that says why.

        Args:
            image: (H, W, 3) uint8 of the artifact's input size; any image will do.
        """
        faults: dict[Method, str] = {}
        for method in methods:
            try:
                self(image[None], method)
            except (ExplanationError, NotGuided) as error:
                faults[method] = str(error)
        return faults

    def __call__(self, images: Tensor, method: Method) -> Tensor:
        """How much every pixel matters for its image's score.

        Args:
            images: (B, H, W, 3) uint8 RGB of the artifact's input size, on the detector's device.
        Returns:
            (B, H, W) float32, higher is more relevant, 0 outside the region of interest; only cam has negative values. Units
            are score per normalised input (gradient, guided_backprop) or the method's own: compare values only within an image.
        Raises:
            ExplanationError, NotGuided: the method or the layer is not defined for this detector.
        """
        with torch.inference_mode(False), torch.enable_grad():  # the caller may have switched gradients off
            found = torch.cat([self._one(image[None], method) for image in images])
            return self._detector.pixels.zeroed(found)

    def _one(self, image: Tensor, method: Method) -> Tensor:
        inputs = self._detector.prepare(image).detach().requires_grad_()
        if method == "cam":
            return self._cam(inputs)
        if not self._model(inputs).requires_grad:
            raise ExplanationError(
                f"method must suit the detector; {method} needs gradients, and the score of this one has none with respect "
                "to its input. Look at the anomaly map instead."
            )
        if method in ("guided_backprop", "guided_grad_cam") and not self._guided:
            guide_only(self._model, self._part, inputs)
            self._guided = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns at each call that it sets hooks
            if method == "gradient":
                found = Saliency(self._model).attribute(inputs)
            elif method == "guided_backprop":
                found = GuidedBackprop(self._model).attribute(inputs)
            elif method == "grad_cam":
                found = self._grad_cam(inputs)
            elif method == "guided_grad_cam":
                found = GuidedBackprop(self._model).attribute(inputs) * self._grad_cam(inputs)
            else:
                raise ExplanationError(f"method must be one of {', '.join(METHODS)}; got {method!r}. Choose one of them.")
        return found.detach().abs().amax(1)  # (1, H, W)

    def _grad_cam(self, inputs: Tensor) -> Tensor:
        """(1, 1, H, W), never negative."""
        with self._places(inputs) as places:
            try:
                found = [
                    _back(LayerGradCam(self._model, place.module).attribute(inputs, relu_attributions=True), place.seen, inputs)
                    for place in places
                ]
            except RuntimeError as error:
                if "not have been used in the graph" not in str(error):
                    raise
                raise ExplanationError(
                    f"layer must be one that the score depends on; {self.layer!r} is read for the map alone. Choose another, "
                    "or none for the deepest tap."
                ) from None
        return torch.stack(found).sum(0)

    @contextmanager
    def _places(self, inputs: Tensor) -> Iterator[list["_Place"]]:
        """The calls of the layer. While the context is open, the layer's maps pass through the modules of these calls."""
        places: list[_Place] = []
        seen = inputs
        calls: Iterator[_Place] | None = None  # None while the calls are being counted

        def enter(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            nonlocal seen
            seen = arguments[0]

        def through(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            maps = _deepest(output[: self._taps]) if isinstance(output, list | tuple) else output
            self._check_maps(maps, inputs)
            if calls is None:
                places.append(_Place(nn.Identity(), seen))
                return None
            placed = next(calls).module(maps)
            return [placed if part is maps else part for part in output] if isinstance(output, list | tuple) else placed

        handles = [self._part.register_forward_pre_hook(enter), self._module.register_forward_hook(through)]
        try:
            self._model(inputs)
            if not places:
                raise ExplanationError(
                    f"layer must be one that the score passes through; {self.layer!r} is not run. Choose a shallower one."
                )
            calls = itertools.cycle(places)
            yield places
        finally:
            for handle in handles:
                handle.remove()

    def _check_maps(self, maps: Any, inputs: Tensor) -> None:
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ExplanationError(
                f"layer must give maps (B, C, h, w); {self.layer!r} gives {shape}. Choose a convolutional layer, or none for "
                "the deepest tap."
            )
        if maps is inputs:
            leaves = [name for name, module in layers(self._detector).items() if not len(list(module.children()))]
            raise ExplanationError(
                f"layer must be given for a detector whose features are the pixels; got none. Its layers: {', '.join(leaves)}."
            )

    @torch.no_grad()
    def _cam(self, inputs: Tensor) -> Tensor:
        weights_of = getattr(self._detector, "pooled_weights", None)
        weights = weights_of() if weights_of is not None else None
        if weights is None:
            raise ExplanationError(
                "method must suit the detector; cam needs a score that is linear in pooled features, and this one's is not. "
                "Use grad_cam, which needs no such form."
            )
        maps = self._detector.features(inputs)
        if len(maps) != 1 or weights.shape != maps[0].shape[1:2]:
            raise ExplanationError(
                f"pooled_weights must be one weight a channel of the only level; got {tuple(weights.shape)} for "
                f"{[tuple(x.shape) for x in maps]}. Correct the detector."
            )
        cells = torch.einsum("c,bchw->bhw", weights, maps[0])
        return resized(cells, inputs.shape[2:])  # (1, H, W)


class _Features(nn.Module):
    """Detector.features as a module, so that its maps can be a layer."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, inputs: Tensor) -> Maps:
        return self.detector.features(inputs)


class _Score(nn.Module):
    """(B, 3, H, W) normalised inputs to the score (B,), which captum differentiates."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.features = _Features(detector)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.features.detector.score_features(self.features(inputs)).score


def layers(detector: Detector) -> dict[str, nn.Module]:
    """The modules that `layer` can name, under the names of taps; a detector without a timm backbone gives its own modules.

    >>> from models import registry
    >>> from models.config import ArtifactConfig
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8}))
    >>> sorted(layers(detector))[:3]
    ['encoder', 'encoder.deep', 'encoder.deep.convolutions']
    """
    backbone = _backbone(detector)
    found = (backbone.model if backbone else detector).named_modules()
    return {name: module for name, module in found if name and not any(isinstance(part, Cells) for part in module.modules())}


def _backbone(detector: Detector) -> Backbone | None:
    return next((module for module in detector.modules() if isinstance(module, Backbone)), None)


def _taps(detector: Detector) -> int | None:
    """How many of the maps that the backbone gives are the detector's taps; what is read beside them comes last."""
    extractor = next((module for module in detector.modules() if isinstance(module, FeatureExtractor)), None)
    return len(extractor.config.taps) if extractor else None


class _Place(NamedTuple):
    """One call of a layer. module: its maps pass through this, so that captum can tell the calls apart. seen:
    (1, 3, H', W'), what the backbone saw in that call, with its graph from the inputs."""

    module: nn.Module
    seen: Tensor


def _back(cells: Tensor, seen: Tensor, inputs: Tensor) -> Tensor:
    """A layer's (1, 1, h, w) at the inputs' pixels, (1, 1, H, W), by the adjoint of the map from the inputs to `seen`.

    That map is linear up to a constant for a pyramid or a rotation: each pixel gets the mean of the places that it went to.
    """
    shown = LayerAttribution.interpolate(cells.detach(), tuple(seen.shape[2:]), "bilinear").expand_as(seen)
    parts = [torch.autograd.grad(seen, inputs, each, retain_graph=True)[0] for each in (shown, torch.ones_like(seen))]
    total, weight = (part.mean(1, keepdim=True) for part in parts)  # (1, 1, H, W)
    # A nearest-neighbour pyramid leaves pixels out; these take their neighbours' values.
    near, near_weight = (F.avg_pool2d(part, NEAR_PX, 1, NEAR_PX // 2) for part in (total, weight))
    filled = torch.where(near_weight > EPSILON, near / near_weight.clamp_min(EPSILON), 0.0)
    return torch.where(weight > EPSILON, total / weight.clamp_min(EPSILON), filled)


def _deepest(maps: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """The last map with the coarsest grid."""
    return min(reversed(maps), key=lambda x: x.shape[-1] * x.shape[-2])
