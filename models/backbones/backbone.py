"""Frozen timm backbones cut after the deepest layer that is read."""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.backbones.config import BackboneConfig
from models.backbones.exact_layers import exact_layers
from models.backbones.folding import Pair, fold, foldable
from models.backbones.hub import FIX, check_hub
from models.backbones.network import network
from models.backbones.preprocess import pyramid_sizes
from models.backbones.pruning import MISSED, prune, prune_what_may_go, unused_layers
from models.backbones.reductions import indices_of
from models.backbones.structure import Size, Structure
from models.backbones.undrawn import do_weights_follow, undrawn
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
        self.structure: Structure | None = None
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        return super().train(False)

    def remember(self) -> None:
        """Put the hooks on layers that are tapped by name, so that no two threads do it at once in their first passes."""
        for tap in self.taps:
            if isinstance(tap, str):
                _remembered(self.model.get_submodule(tap), tap)

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
    licence = default.license if default and weights != "none" else None
    mean, std = (default.mean, default.std) if default else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    if weights == "hub":
        check_hub(config.name, default.to_dict() if default else {})
    if weights not in ("hub", "none"):
        notes = file_metadata(weights)
        if notes.get("timm_model", config.name) != config.name:
            raise BackboneError(
                f"backbone must be {notes['timm_model']!r} for the weights file {weights}; got {config.name!r}. "
                "Set --backbone to it, or choose another file."
            )
        licence = notes.get("license", licence)
        kwargs = {name: read(notes[name]) for name, read in FILE_KWARGS.items() if name in notes} | kwargs
        mean = tuple(float(x) for x in notes["mean"].split(",")) if "mean" in notes else mean
        std = tuple(float(x) for x in notes["std"].split(",")) if "std" in notes else std
    taps = config.taps or indices_of(config.name, kwargs, default_reductions)
    update = {"weights": weights, "kwargs": kwargs, "taps": taps, "mean": config.mean or mean, "std": config.std or std}
    return config.model_copy(update=update | {"licence": config.licence or licence})


def create(config: BackboneConfig, height: int, width: int, scales: int = 1) -> Backbone:
    """Build a resolved config: layers that the taps do not need are dropped, batch norms are folded into convolutions.

    The structure depends on the config and the input size, and what is kept of it in `Backbone.structure` rebuilds it without
    a forward pass, so that a state dict saved from one backbone loads strictly into another. While `weights_follow`, a config
    with the structure for these sizes is built so, and no weights are drawn.

    Args:
        scales: how many sizes the backbone must run at: the images', half of it, a quarter ... (`pyramid`).

    >>> backbone = create(resolve(BackboneConfig(name="test_resnet", weights="none")), height=64, width=64)
    >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 64, 64))]
    [(1, 192, 4, 4)]
    """
    sizes = pyramid_sizes(height, width, scales)
    known = config.structure
    if known is not None and do_weights_follow() and (known.sizes, len(known.channels)) == (sizes, len(config.taps)):
        backbone = _rebuilt(config, known)
    else:
        backbone = _built(config, sizes)
    backbone.remember()
    return backbone


def _rebuilt(config: BackboneConfig, structure: Structure) -> Backbone:
    """The network with the structure of an earlier build, without a forward pass; its state dict is loaded afterwards."""
    model = undrawn(lambda: network(config.name, config.kwargs))
    backbone = Backbone(model, config.taps)
    try:
        prune(model, structure.pruned)
        fold(model, structure.folded)
        for name in (*structure.float32, *(tap for tap in config.taps if isinstance(tap, str))):
            model.get_submodule(name)
    except MISSED as error:
        raise BackboneError(
            f"structure must name layers of the backbone {config.name!r}; {error}. It is that of another network."
        ) from error
    backbone.structure = structure
    return backbone.to(memory_format=torch.channels_last)


@torch.no_grad()
def _built(config: BackboneConfig, sizes: tuple[Size, ...]) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = network(config.name, config.kwargs)
    backbone = Backbone(model, config.taps)
    generator = torch.Generator().manual_seed(0)
    probes = [torch.rand(1, 3, *size, generator=generator) for size in sizes]
    maps = _check(backbone, probes)
    known = {key: tensor.shape for key, tensor in model.state_dict().items()}

    def run() -> Maps:
        return [x for probe in probes for x in backbone(probe)]

    pruned = prune_what_may_go(model, unused_layers(backbone, model, probes[-1]), run)
    if config.weights != "none":
        state = _hub_state(config) if config.weights == "hub" else load_file(config.weights)
        load_weights(model, state, known, config)
    folded = _folded(backbone, probes[0]) if config.fold_batch_norms else []
    backbone.to(memory_format=torch.channels_last)
    backbone.structure = Structure(
        sizes=sizes,
        channels=tuple(x.shape[1] for x in maps[0]),
        grids=tuple(tuple((x.shape[2], x.shape[3]) for x in of_size) for of_size in maps),
        pruned=tuple(pruned),
        folded=tuple(folded),
        float32=tuple(exact_layers(backbone, model, *sizes[0])),
    )
    return backbone


def _check(backbone: Backbone, probes: Sequence[Tensor]) -> list[Maps]:
    """Maps of every probe, after checking that the taps exist and give maps at every size."""
    names = dict(backbone.model.named_modules())
    unknown = [tap for tap in backbone.taps if isinstance(tap, str) and tap not in names]
    if unknown:
        near = [name for name in names if name.count(".") <= 1 and name]
        raise BackboneError(f"taps must be layers of the backbone; got {unknown!r}. Its layers: {', '.join(near)}.")
    found = []
    for number, probe in enumerate(probes, start=1):
        size = f"{probe.shape[-2]} x {probe.shape[-1]}"
        scale = f" (the detector reads {len(probes)} sizes, this is number {number})" if len(probes) > 1 else ""
        try:
            maps = backbone(probe)
        except MISSED as error:
            if isinstance(error, BackboneError):
                raise
            raise BackboneError(
                f"backbone must run on {size} images{scale} with taps {backbone.taps!r}; it failed with: "
                f"{str(error) or type(error).__name__}. Choose other taps, another image size, fewer scales, or kwargs of a "
                "transformer: dynamic_img_size: true (ViT, DeiT), img_size with strict_img_size: false (Swin)."
            ) from error
        for tap, x in zip(backbone.taps, maps, strict=True):
            if not isinstance(x, Tensor) or x.ndim != 4:
                shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise BackboneError(f"taps must give maps (B, C, H, W); {tap!r} gives {shape}. Give the tap by timm's index.")
        found.append(maps)
    return found


def _folded(backbone: Backbone, probe: Tensor) -> list[Pair]:
    """Fold what can be folded; the maps may change by rounding only."""
    before: list[Maps] = []
    pairs = foldable(backbone.model, backbone.taps, lambda: before.append(backbone(probe)))
    fold(backbone.model, pairs)
    for tap, a, b in zip(backbone.taps, before[0], backbone(probe), strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max())):
            raise BackboneError(
                f"fold_batch_norms must be false for this backbone: folding changes the tap {tap!r}. "
                "Set fold_batch_norms: false in the backbone's config."
            )
    return pairs


def _hub_state(config: BackboneConfig) -> dict[str, Tensor]:
    try:
        model = timm.create_model(config.name, pretrained=True, **config.kwargs)
    except OSError as error:
        raise BackboneError(
            f"weights must be reachable; the hub did not give those of {config.name!r} ({type(error).__name__}). {FIX}."
        ) from error
    except RuntimeError as error:
        raise BackboneError(f"weights must exist on the hub for {config.name!r}; got: {error}. {FIX}.") from error
    return model.state_dict()
