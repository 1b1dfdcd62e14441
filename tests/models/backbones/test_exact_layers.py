"""Fine and depthwise convolutions compute in float32 under autocast, whatever is copied or loaded."""

import copy

import torch
from torch import Tensor, nn

from models.backbones.exact_layers import exact_layers, keep_float32

SIZE = (64, 96)


class Network(nn.Module):
    """Strides 2, 8, 16 and 16; the third convolution is depthwise."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.fine = nn.Conv2d(8, 8, 4, stride=4)
            self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
            self.coarse = nn.Conv2d(8, 16, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for layer in (self.stem, self.fine, self.depthwise, self.coarse):
            images = layer(images)
            maps.append(images)
        return maps


def outputs(network: nn.Module) -> list[Tensor]:
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return network(images)


def test_only_the_coarse_mixing_layer_is_rounded():
    network = Network()
    assert {x.dtype for x in outputs(network)} == {torch.bfloat16}
    keep_float32(network, exact_layers(network, network, *SIZE))
    assert [x.dtype for x in outputs(network)] == [torch.float32] * 3 + [torch.bfloat16]


def test_outside_autocast_nothing_changes():
    network, plain = Network(), Network()
    keep_float32(network, exact_layers(network, network, *SIZE))
    images = torch.rand(1, 3, *SIZE)
    assert all(torch.equal(x, y) for x, y in zip(network(images), plain(images), strict=True))
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_a_copy_computes_with_its_own_weights():
    network = Network()
    keep_float32(network, exact_layers(network, network, *SIZE))
    other = copy.deepcopy(network)
    nn.init.zeros_(other.stem.weight)
    nn.init.ones_(other.stem.bias)
    assert torch.equal(outputs(other)[0], torch.ones(2, 8, 32, 48))
    assert not torch.equal(outputs(network)[0], outputs(other)[0])
