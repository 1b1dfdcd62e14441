"""timm's networks as their constructors make them, with random weights."""

from typing import Any

import timm
from torch import nn

from models.backbones.weights import BackboneError


def network(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """The network with weights that torch draws. Raises BackboneError for arguments that its constructor does not take.

    >>> len(network("test_resnet", {}).feature_info)
    5
    """
    try:
        return timm.create_model(name, pretrained=False, **kwargs)
    except TypeError as error:
        fix = "Correct or remove them."
        raise BackboneError(f"backbone_kwargs must be arguments of {name!r}; got {kwargs!r} ({error}). {fix}") from error
