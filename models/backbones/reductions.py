"""The features of a network by their stride, as timm lists them."""

from collections.abc import Sequence
from typing import Any

from models.backbones.config import BackboneConfig
from models.backbones.network import network
from models.backbones.taps import layer_of


def indices_of(name: str, kwargs: dict[str, Any], reductions: Sequence[int]) -> tuple[int, ...]:
    """timm's indices of the deepest features of these strides, each of that stride or the nearest finer one.

    >>> indices_of("test_resnet", {}, reductions=(8, 16))
    (2, 3)
    """
    model: Any = network(name, kwargs)
    strides = [feature["reduction"] for feature in model.feature_info]
    deepest = [max(i for i, stride in enumerate(strides) if stride <= max(limit, min(strides))) for limit in reductions]
    return tuple(sorted(set(deepest)))


def taps_beside(config: BackboneConfig, reductions: Sequence[int]) -> tuple[str | int, ...]:
    """The deepest features of these strides, given as the resolved config's taps are: by timm's index, or by layer name.

    None is deeper than the taps, so that the network runs no further, but a layer that `models.backbones.taps` has for the
    stride and taps that are names. Where all are deeper, the taps themselves are read.

    >>> config = BackboneConfig(name="test_resnet", taps=(3,), weights="none")
    >>> taps_beside(config, reductions=(4, 8)), taps_beside(config, reductions=(32,))
    ((1, 2), (3,))
    """
    if not reductions:
        return ()
    if isinstance(config.taps[0], int):
        indices = indices_of(config.name, config.kwargs, reductions)
        return tuple(index for index in indices if index <= max(config.taps)) or config.taps  # type: ignore[operator]
    model: Any = network(config.name, config.kwargs)
    depth = {name: place for place, (name, _) in enumerate(model.named_modules())}
    deepest = max(depth.get(str(tap), 0) for tap in config.taps)  # the network says which tap it lacks when it is built
    known = {reduction: layer_of(reduction, config.name) for reduction in reductions}
    others = [reduction for reduction, layer in known.items() if layer is None]
    names = [name for name in _names(model, indices_of(config.name, config.kwargs, others)) if depth[name] <= deepest]
    return (*names, *(layer for layer in known.values() if layer is not None)) or config.taps


def layer_names(config: BackboneConfig, indices: Sequence[str | int]) -> tuple[str, ...]:
    """The layers that timm's indices count.

    >>> layer_names(BackboneConfig(name="test_resnet"), (1, 3))
    ('layer1', 'layer3')
    """
    return _names(network(config.name, config.kwargs), [int(index) for index in indices])


def _names(model: Any, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(model.feature_info[index]["module"]) for index in indices)
