"""Which maps the deletion test lets one trust, on a score whose reason is known."""

import pytest
import torch
from scipy.stats import binom
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from models.explain.deletion import Deletion, RandomOrders, compare
from models.explain.deletion_config import DeletionConfig
from models.explain.trust import Trust, most_trusted_first, trust


def energy(batch: Tensor) -> Tensor:
    return batch.square().mean((1, 2, 3))


def test_the_true_map_is_better_and_the_inverted_one_worse() -> None:
    spot = torch.zeros(64, 64)
    spot[8:24, 30:50] = 1.0
    inputs = 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)) + 3 * spot
    maps = {"inverted": -spot, "true": spot}
    _, tested, random = compare(energy, inputs, maps, DeletionConfig())
    assert trust(tested["true"], random["true"]) == Trust("better", 19, 19)
    assert trust(tested["inverted"], random["inverted"]) == Trust("worse", 0, 19)
    assert most_trusted_first(tested, random) == ["true", "inverted"]


@pytest.mark.parametrize("sigma_px", [0.1, 2.5, 5.0])
def test_a_map_that_knows_nothing_is_better_once_in_twenty_however_smooth_it_is(sigma_px: float) -> None:
    """Against orders that scatter the cells, a smooth map is far more often."""
    maps, generator, standings = 200, torch.Generator().manual_seed(0), []
    for _ in range(maps):
        top, left = torch.randint(0, 26, (2,), generator=generator).tolist()
        inputs = 0.05 * torch.randn(3, 32, 32, generator=generator)
        inputs[:, top : top + 7, left : left + 6] += 3
        noise = gaussian_blur(torch.randn(1, 32, 32, generator=generator), [25, 25], [sigma_px, sigma_px])[0]
        _, tested, random = compare(energy, inputs, {"noise": noise}, DeletionConfig(feather=0))
        standings.append(trust(tested["noise"], random["noise"]).standing)
    chance = binom(maps, 1 / 20)
    assert chance.ppf(0.005) <= standings.count("better") <= chance.ppf(0.995)
    assert "untested" not in standings and standings.count("worse") > 60 and standings.count("unclear") > 60


def test_a_map_that_ties_with_the_random_orders_is_worse_not_better() -> None:
    """All places alike: whatever the order, nothing is shown."""
    assert trust(Deletion(0.5, []), RandomOrders(0.5, [], [0.5, 0.5])) == Trust("worse", 0, 2)


def test_without_figures_nothing_is_said() -> None:
    assert trust(None, None) == trust(Deletion(0.1, []), None) == Trust("untested", 0, 0)
    assert trust(None, RandomOrders(0.5, [], [0.5])).standing == "untested"
