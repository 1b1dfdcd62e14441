"""Weights files of a backbone: what they say of themselves, and what of them the taps need."""

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.backbones.config import BackboneConfig
from models.faults import ModelError


class BackboneError(ModelError):
    """A backbone that cannot be built as configured; the message says what to change."""


def file_metadata(path: str) -> dict[str, str]:
    """What a safetensors file says of itself. Raises BackboneError.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.torch import save_file
    >>> with TemporaryDirectory() as folder:
    ...     save_file({"weight": torch.zeros(1)}, Path(folder) / "a.safetensors", {"act_layer": "relu6"})
    ...     file_metadata(f"{folder}/a.safetensors")
    {'act_layer': 'relu6'}
    """
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"weights must be auto, hub, none or a safetensors file; got {path!r} ({error}). Check the path and format."
        ) from error


def load_weights(model: nn.Module, state: dict[str, Tensor], known: dict[str, torch.Size], config: BackboneConfig) -> None:
    """Load what the taps need. A file may lack layers that were dropped, but may hold no key the network lacks.

    >>> model = nn.Linear(2, 1)
    >>> state = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    >>> load_weights(model, state, {key: x.shape for key, x in state.items()}, BackboneConfig(name="resnet18"))
    >>> model.weight.tolist()
    [[1.0, 1.0]]
    """
    needed = model.state_dict()
    missing = [key for key in needed if key not in state]
    unexpected = [key for key in state if key not in known]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
        for key, shape in known.items()
        if key in state and state[key].shape != shape
    ]
    faults = [
        f"{title}: {', '.join(found[:6])}{f' and {len(found) - 6} more' if len(found) > 6 else ''}"
        for title, found in (("missing", missing), ("unexpected", unexpected), ("other shapes", shapes))
        if found
    ]
    if faults:
        raise BackboneError(
            f"weights must fit {config.name} up to its taps {list(config.taps)!r}; got {config.weights!r} with "
            f"{'; '.join(faults)}. Choose the matching backbone and kwargs, or shallower taps."
        )
    model.load_state_dict({key: state[key] for key in needed})
