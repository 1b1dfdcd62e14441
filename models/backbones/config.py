"""The settings of a backbone. This file does not import torch and timm: that takes seconds, and most callers only read."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from models.backbones.structure import Structure

STORED = {"stored": True}
"""A validation's context for the config of a stored artifact: its network was built when it was trained, so only the form of
the name is checked. Loading the artifact shows whether this installation has the network."""

NAME = re.compile(r"\w+(\.[\w.-]+)?", re.ASCII)
NOT_KWARGS = {
    "model_name",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
    "scriptable",
    "exportable",
    "no_jit",
}
"""Arguments of timm.create_model itself: they name files and addresses to load."""


def check_known(name: str) -> None:
    """Raises ValueError unless this installation's timm has the network.

    >>> check_known("resnet18.a1_in1k")  # raises nothing: timm has it
    """
    import timm

    if not NAME.fullmatch(name) or not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:8])
        raise ValueError(f"backbone must be a timm model; got {name!r}. Models with a similar name: {near or 'none'}.")


class BackboneConfig(BaseModel):
    """Which network, what is read from it, and where its weights come from.

    taps: layer names ("blocks.3") or timm's feature indices (3); empty reads the deepest feature of reduction <= 16.
    weights: auto, hub, none (random, from the seed) or the path of a safetensors file with timm's names.
    kwargs: arguments of the timm constructor. mean, std: of the RGB input scaled to [0, 1]; None takes the weights' own.
    licence: of the weights, as their file or timm names it; None for random weights, and where neither says.
    structure: what building the network found out; only a stored artifact has it, and only loading that reads it.

    >>> BackboneConfig(name="resnet18", taps=("layer2", "layer3")).weights
    'auto'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "mobilenetv1_100"
    taps: tuple[str | int, ...] = ()
    weights: str = "auto"
    kwargs: dict[str, Any] = {}
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    seed: int = 0
    fold_batch_norms: bool = True
    licence: str | None = None
    structure: Structure | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if info.context != STORED or not NAME.fullmatch(name):
            check_known(name)
        return name

    @field_validator("kwargs")
    @classmethod
    def _load_nothing(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        refused = sorted(NOT_KWARGS & kwargs.keys())
        if refused:
            raise ValueError(f"kwargs must be arguments of the network; got {', '.join(refused)}. Give a file as weights.")
        return kwargs

    @field_validator("taps")
    @classmethod
    def _one_kind(cls, taps: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if len({type(tap) for tap in taps}) > 1 or len(set(taps)) < len(taps):
            raise ValueError(f"taps must be distinct layer names or distinct indices; got {taps!r}. Use one kind.")
        return taps
