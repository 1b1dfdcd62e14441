"""Frozen timm backbones cut after the deepest layer that is read."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.backbones.config import BackboneConfig
from models.backbones.weights import BackboneError, file_metadata, load_weights
from models.maps.grids import Maps

log = logging.getLogger(__name__)

# Arguments of timm's constructors that a weights file may state in its metadata, and how to read them.
FILE_KWARGS = {"pad_type": str, "bn_eps": float, "act_layer": str}
KNOWN_FILES = {"mobilenetv1_100": "assets/weights/mobilenetv1_100_imagenet.safetensors"}  # below FLOWSCORE_ASSETS


class Backbone(nn.Module):
    """The tapped maps of one network, in evaluation mode and without gradients of its own.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    >>> [tuple(x.shape) for x in Backbone(network, taps=("1", "0"))(torch.zeros(1, 3, 5, 5))]
    [(1, 4, 5, 5), (1, 8, 5, 5)]
    """

    def __init__(self, model: nn.Module, taps: tuple[str | int, ...]):
        super().__init__()
        self.model = model
        self.taps = taps
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        return super().train(False)

    def forward(self, images: Tensor) -> Maps:
        """Normalised images (B, 3, H, W) to one (B, C_t, H_t, W_t) per tap, in the order of the taps."""
        if isinstance(self.taps[0], int):
            order = sorted(range(len(self.taps)), key=lambda i: self.taps[i])
            maps = self.model.forward_intermediates(  # type: ignore[operator]
                images, indices=[self.taps[i] for i in order], intermediates_only=True, stop_early=True
            )
            return [maps[order.index(i)] for i in range(len(order))]
        return _tapped(self.model, self.taps, images)


class _Stop(Exception):
    """Ends a forward pass once every tap was reached."""


class _Pass(threading.local):
    """The forward pass of this thread: the maps of the taps that it has reached, None while there is no pass."""

    reached: dict[str, Tensor] | None = None
    wanted = 0


_pass = _Pass()


class _Remember:
    """A forward hook that stays on a tapped layer and acts only during a pass of `_tapped`, so that threads can share it."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if _pass.reached is not None:
            _pass.reached[self.name] = output
            if len(_pass.reached) == _pass.wanted:
                raise _Stop


def _remembered(layer: nn.Module, name: str) -> None:
    """Make a _Remember the layer's last hook: earlier hooks may change the output, and later ones would not be reached."""
    hooks = layer._forward_hooks
    ours = [key for key, hook in hooks.items() if isinstance(hook, _Remember)]
    if not ours or ours[-1] != next(reversed(hooks)):
        for key in ours:
            del hooks[key]
        layer.register_forward_hook(_Remember(name))


def _tapped(model: nn.Module, taps: tuple, images: Tensor) -> Maps:
    for tap in taps:
        _remembered(model.get_submodule(tap), tap)
    reached = _pass.reached = {}
    _pass.wanted = len(taps)
    try:
        model(images)
    except _Stop:
        pass
    finally:
        _pass.reached = None
    missed = [tap for tap in taps if tap not in reached]
    if missed:
        raise BackboneError(f"taps must be layers that a forward pass calls; got {missed!r}. Choose other layers.")
    return [reached[tap] for tap in taps]


def resolve(config: BackboneConfig, default_reductions: Sequence[int] = (16,)) -> BackboneConfig:
    """The config with every default filled in: taps, weights (hub, none or a path), constructor arguments, mean, std.

    Args:
        default_reductions: strides whose deepest features are tapped where the config names no taps; each takes the
            deepest feature of that stride or the nearest finer one.

    >>> resolve(BackboneConfig(name="test_resnet", weights="none"), default_reductions=(8, 16)).taps
    (2, 3)
    """
    weights = config.weights
    if weights == "auto":
        known = Path(os.environ.get("FLOWSCORE_ASSETS") or "/nonexistent") / KNOWN_FILES.get(config.name, "-")
        weights = str(known) if known.is_file() else "hub"
        if weights != "hub":
            log.warning("backbone weights: %s (FLOWSCORE_ASSETS is set; --weights hub would download them)", known)
    kwargs = dict(config.kwargs)
    default = timm.get_pretrained_cfg(config.name)
    mean, std = (default.mean, default.std) if default else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    if weights not in ("hub", "none"):
        notes = file_metadata(weights)
        if notes.get("timm_model", config.name) != config.name:
            raise BackboneError(
                f"backbone must be {notes['timm_model']!r} for the weights file {weights}; got {config.name!r}. "
                "Set --backbone to it, or choose another file."
            )
        kwargs = {name: read(notes[name]) for name, read in FILE_KWARGS.items() if name in notes} | kwargs
        mean = tuple(float(x) for x in notes["mean"].split(",")) if "mean" in notes else mean
        std = tuple(float(x) for x in notes["std"].split(",")) if "std" in notes else std
    taps = config.taps or _default_taps(config.name, kwargs, default_reductions)
    update = {"weights": weights, "kwargs": kwargs, "taps": taps, "mean": config.mean or mean, "std": config.std or std}
    return config.model_copy(update=update)


def _network(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=False, **kwargs)
    except TypeError as error:
        fix = "Correct or remove them."
        raise BackboneError(f"backbone_kwargs must be arguments of {name!r}; got {kwargs!r} ({error}). {fix}") from error


def _default_taps(name: str, kwargs: dict[str, Any], wanted: Sequence[int]) -> tuple[int, ...]:
    model: Any = _network(name, kwargs)
    reductions = [feature["reduction"] for feature in model.feature_info]
    deepest = [max(i for i, r in enumerate(reductions) if r <= max(limit, min(reductions))) for limit in wanted]
    return tuple(sorted(set(deepest)))


def create(config: BackboneConfig, height: int, width: int) -> Backbone:
    """Build a resolved config: layers after the deepest tap are dropped, batch norms are folded into convolutions.

    The structure depends on the config and the input size only, never on the weights, so that a state dict saved from
    one backbone loads strictly into another of the same config with weights "none".

    >>> backbone = create(resolve(BackboneConfig(name="test_resnet", weights="none")), height=64, width=64)
    >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 64, 64))]
    [(1, 192, 4, 4)]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _network(config.name, config.kwargs)
    backbone = Backbone(model, config.taps)
    probe = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    known = {key: tensor.shape for key, tensor in model.state_dict().items()}
    _prune(backbone, _check(backbone, probe), probe)
    if config.weights != "none":
        state = _hub_state(config) if config.weights == "hub" else load_file(config.weights)
        load_weights(backbone.model, state, known, config)
    if config.fold_batch_norms:
        _fold_batch_norms(backbone, probe)
    return backbone.to(memory_format=torch.channels_last)


@torch.enable_grad()
def _check(backbone: Backbone, probe: Tensor) -> Maps:
    """Maps of the probe with gradients on, after checking that the taps exist and give maps."""
    names = dict(backbone.model.named_modules())
    unknown = [tap for tap in backbone.taps if isinstance(tap, str) and tap not in names]
    if unknown:
        near = [name for name in names if name.count(".") <= 1 and name]
        raise BackboneError(f"taps must be layers of the backbone; got {unknown!r}. Its layers: {', '.join(near)}.")
    backbone.requires_grad_(True)
    try:
        maps = backbone(probe)
    except (IndexError, AssertionError, RuntimeError) as error:
        raise BackboneError(
            f"backbone must run on {probe.shape[-2]} x {probe.shape[-1]} images with taps {backbone.taps!r}; it failed "
            f"with: {error}. Choose other taps, another image size, or kwargs such as img_size or dynamic_img_size."
        ) from error
    for tap, x in zip(backbone.taps, maps, strict=True):
        if not isinstance(x, Tensor) or x.ndim != 4:
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise BackboneError(f"taps must give maps (B, C, H, W); {tap!r} gives {shape}. Give the tap by timm's index.")
    return maps


@torch.enable_grad()
def _prune(backbone: Backbone, maps: Maps, probe: Tensor) -> None:
    """Replace every module whose parameters do not affect the taps; the maps must stay the same."""
    parameters = list(backbone.model.parameters())
    gradients = torch.autograd.grad([x.sum() for x in maps], parameters, allow_unused=True)
    used = {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    for name, module in list(backbone.model.named_modules()):
        own = list(module.parameters())
        if name and own and not any(id(p) in used for p in own):
            backbone.model.set_submodule(name, nn.Identity())
    backbone.requires_grad_(False)
    after = backbone(probe)
    assert all(torch.equal(a, b) for a, b in zip(maps, after, strict=True))


def _fold_batch_norms(backbone: Backbone, probe: Tensor) -> None:
    """Fold each batch norm that directly follows a convolution into it."""
    producers: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive, because their ids are compared
    pairs: list[tuple[str, str]] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if type(module) in (nn.Conv2d, Conv2dSame) and name not in backbone.taps:
                producers[id(output)] = name
                outputs.append(output)
            elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in producers:
                pairs.append((producers[id(inputs[0])], name))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in backbone.model.named_modules()]
    before = backbone(probe)
    for handle in handles:
        handle.remove()
    for conv_name, norm_name in pairs:
        conv, norm = backbone.model.get_submodule(conv_name), backbone.model.get_submodule(norm_name)
        rest = [module for module in (getattr(norm, "drop", None), getattr(norm, "act", None)) if module is not None]
        backbone.model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
        backbone.model.set_submodule(norm_name, nn.Sequential(*rest))
    for tap, a, b in zip(backbone.taps, before, backbone(probe), strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max())):
            raise BackboneError(
                f"fold_batch_norms must be false for this backbone: folding changes the tap {tap!r}. "
                "Set fold_batch_norms: false in the backbone's config."
            )


def _hub_state(config: BackboneConfig) -> dict[str, Tensor]:
    fix = "Give a local file with --weights FILE, or --weights none for random weights"
    try:
        model = timm.create_model(config.name, pretrained=True, **config.kwargs)
    except OSError as error:
        raise BackboneError(
            f"weights must be reachable; the hub did not give those of {config.name!r} ({type(error).__name__}). {fix}."
        ) from error
    except RuntimeError as error:
        raise BackboneError(f"weights must exist on the hub for {config.name!r}; got: {error}. {fix}.") from error
    return model.state_dict()
