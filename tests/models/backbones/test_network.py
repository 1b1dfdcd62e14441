import pytest

from models.backbones.network import network
from models.backbones.weights import BackboneError


def test_arguments_that_the_network_does_not_take_are_named() -> None:
    with pytest.raises(BackboneError, match="backbone_kwargs must be arguments of 'test_resnet'; got {'colour': 3}"):
        network("test_resnet", {"colour": 3})
