import torch
from torch import Tensor, nn

from models.backbones.pruning import prune_what_may_go, unused_layers


class Particular(nn.Module):
    """It asks two layers that no map depends on: one for its class, one for its length."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.asked = nn.Conv2d(4, 4, 1)
        self.counted = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Linear(4, 2))
        self.other = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images) * len(self.counted)
        return [x if isinstance(self.asked, nn.Conv2d) else x + 1]


def test_the_outermost_unused_layers_are_found():
    network = Particular()
    assert unused_layers(network, network, torch.ones(1, 3, 2, 2)) == ["asked", "counted", "head", "other"]
    assert all(parameter.requires_grad for parameter in network.parameters())
    network.requires_grad_(False)
    unused_layers(network, network, torch.ones(1, 3, 2, 2))
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_layers_that_the_forward_pass_asks_for_something_stay():
    network, runs = Particular(), []
    asked, counted, images = network.asked, network.counted, torch.ones(1, 3, 2, 2)

    def run() -> list[Tensor]:
        runs.append(1)
        return network(images)

    before = network(images)
    assert prune_what_may_go(network, ["asked", "counted", "head", "other"], run) == ["head", "other"]
    assert network.asked is asked and network.counted is counted
    assert not list(network.head.parameters())
    assert torch.equal(network(images)[0], before[0])
    runs.clear()
    assert prune_what_may_go(network, ["stem"], run) == [] and network.stem.weight.shape == (4, 3, 1, 1)
    assert prune_what_may_go(network, [], run) == []
