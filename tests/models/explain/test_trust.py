"""Which maps the deletion test lets one trust, on a score whose reason is known."""

import torch
from torch import Tensor

from models.explain.deletion import Deletion, RandomOrders, compare
from models.explain.deletion_config import DeletionConfig
from models.explain.trust import Trust, most_trusted_first, trust


def test_of_maps_the_true_one_is_better_the_inverted_one_worse_and_noise_hardly_ever_better() -> None:
    generator = torch.Generator().manual_seed(0)
    spot = torch.zeros(64, 64)
    spot[8:24, 30:50] = 1.0
    inputs = 0.05 * torch.randn(3, 64, 64, generator=generator) + 3 * spot

    def energy(batch: Tensor) -> Tensor:
        return batch.square().mean((1, 2, 3))

    maps = {"true": spot, "inverted": -spot} | {f"noise {i}": torch.rand(64, 64, generator=generator) for i in range(60)}
    _, tested, random = compare(energy, inputs, maps, DeletionConfig())
    found = {name: trust(tested[name], random) for name in maps}
    assert found["true"] == Trust("better", 19, 19) and found["inverted"] == Trust("worse", 0, 19)
    noise = [each.standing for name, each in found.items() if name.startswith("noise")]
    assert noise.count("better") <= 9, "3 of 60 are expected by chance; more than 9 once in 400"
    assert noise.count("worse") > 15 and noise.count("unclear") > 15
    order = most_trusted_first(tested)
    assert order[0] == "true" and order[-1] == "inverted"


def test_a_map_that_ties_with_the_random_orders_is_worse_not_better() -> None:
    """All places alike: whatever the order, nothing is shown."""
    assert trust(Deletion(0.5, []), RandomOrders(0.5, [], [0.5, 0.5])) == Trust("worse", 0, 2)


def test_without_figures_nothing_is_said() -> None:
    assert trust(None, None) == trust(Deletion(0.1, []), None) == Trust("untested", 0, 0)
    assert trust(None, RandomOrders(0.5, [], [0.5])).standing == "untested"
