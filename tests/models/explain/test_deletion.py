"""The deletion test on detectors whose reason for a score is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.explain.deletion import compare, deletion, random_deletion, scored_images, substitute
from models.explain.deletion_config import DeletionConfig

CONFIG = DeletionConfig()


def picture(height: int = 64, width: int = 64) -> tuple[Tensor, Tensor]:
    """A fine grain with one bright spot: normalised (3, H, W), and where the spot is, (H, W)."""
    generator = torch.Generator().manual_seed(0)
    spot = torch.zeros(height, width)
    spot[8:24, 30:50] = 1.0
    return 0.05 * torch.randn(3, height, width, generator=generator) + 3 * spot, spot


def energy(inputs: Tensor) -> Tensor:
    """The truth: every pixel adds its squared distance from grey, so the spot is why the score is high."""
    return inputs.square().mean((1, 2, 3))


def test_a_faithful_map_beats_random_order_which_beats_the_inverted_map() -> None:
    inputs, spot = picture()
    noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(1))
    maps = {"true": spot, "wrong": -spot, "noise": noise}
    filled, found, random = compare(energy, inputs, maps, CONFIG)
    assert filled.score == pytest.approx(float(energy(inputs[None])), rel=1e-6)
    assert filled.filled < 0.2 * filled.score
    auc = {name: each.auc for name, each in found.items() if each}
    mean = {name: each.auc for name, each in random.items() if each}
    assert auc["true"] < 0.25 and auc["wrong"] > 0.75
    assert auc["true"] + 0.2 < mean["true"] and mean["wrong"] < auc["wrong"] - 0.2
    assert abs(mean["noise"] - 0.5) < 0.15
    for each in (*found.values(), *random.values()):
        assert each is not None and len(each.curve) == CONFIG.steps + 1
        assert each.curve[0] == pytest.approx(1) and each.curve[-1] == pytest.approx(0)


def test_the_area_by_hand() -> None:
    """A score that counts bright halves: the first half deleted leaves a quarter of it, the second nothing."""
    inputs = torch.zeros(3, 2, 4)
    inputs[:, :, :2], inputs[:, :, 2:] = 3.0, 1.0
    config = DeletionConfig(steps=2, cells=2, feather=0, random_orders=3)
    filled = substitute(lambda x: x.mean((1, 2, 3)).square() * 0 + x.var((1, 2, 3)), inputs)
    assert filled.name == "mean colour" and filled.filled == pytest.approx(0, abs=1e-9)
    filled = type(filled)(torch.zeros_like(inputs), "black", 2.0, 0.0)
    found = deletion(lambda x: x.mean((1, 2, 3)), inputs, inputs[0], filled, config)
    assert found is not None and found.curve == pytest.approx([1.0, 0.25, 0.0])
    assert found.auc == pytest.approx((1.0 / 2 + 0.25 + 0.0 / 2) / 2)


def test_same_seed_same_figures_and_ties_do_not_follow_the_rows() -> None:
    inputs, spot = picture()
    first, again = (compare(energy, inputs, {"true": spot, "flat": torch.zeros(64, 64)}, CONFIG) for _ in range(2))
    assert first[1:] == again[1:]
    flat, of_flat, random = first[1]["flat"], first[2]["flat"], first[2]["true"]
    assert flat is not None and of_flat is not None and set(of_flat.areas) == {flat.auc}, "at every place it is the same map"
    assert random is not None and abs(flat.auc - random.auc) < 0.15
    other = random_deletion(energy, inputs, spot, first[0], DeletionConfig(seed=1))
    assert other is not None and other.auc != random.auc


def test_random_orders_are_the_map_at_every_other_place() -> None:
    """All 63 of them: none is missing, none is there twice, and none is the map's own."""
    inputs, spot = picture()
    filled, bumpy = substitute(energy, inputs), spot + torch.rand(64, 64, generator=torch.Generator().manual_seed(3))
    shifts = [(8 * row, 8 * column) for row in range(8) for column in range(8)][1:]
    wanted = [deletion(energy, inputs, bumpy.roll(shift, (0, 1)), filled, CONFIG) for shift in shifts]
    found = random_deletion(energy, inputs, bumpy, filled, DeletionConfig(random_orders=63))
    assert found is not None and sorted(found.areas) == pytest.approx(sorted(each.auc for each in wanted if each))
    assert found.auc == pytest.approx(sum(found.areas) / 63)


def test_more_orders_than_places_are_refused() -> None:
    with pytest.raises(ValueError, match="random_orders must be below cells squared, the places that a map has; got 9 and 3"):
        DeletionConfig(cells=3, random_orders=9)


def test_an_image_of_another_shape_than_its_cells() -> None:
    inputs, spot = picture(70, 100)
    _, found, random = compare(energy, inputs, {"true": spot}, CONFIG)
    assert found["true"] is not None and random["true"] is not None and found["true"].auc < random["true"].auc - 0.2


def test_the_filling_is_the_least_anomalous() -> None:
    inputs, _ = picture()
    grain = F.avg_pool2d(inputs, 5, 1, 2)
    assert substitute(energy, inputs).name in ("blur 1/8", "mean colour")
    near = substitute(lambda x: (x - grain).square().mean((1, 2, 3)), inputs)
    assert near.name == "blur 1/32"


def test_no_figure_where_nothing_scores_lower() -> None:
    inputs, spot = picture()
    for score in (lambda x: -energy(x), lambda x: energy(x) * math.nan):
        filled, found, random = compare(score, inputs, {"true": spot}, CONFIG)
        assert found == {"true": None} == random


def test_a_good_image_fills_where_blur_is_an_anomaly_of_its_own() -> None:
    """A score of how far the local contrast is from the good one's: a blurred texture is worse than a flat spot."""
    generator = torch.Generator().manual_seed(2)
    good = torch.randn(2, 3, 64, 64, generator=generator)
    inputs, spot = torch.randn(3, 64, 64, generator=generator), torch.zeros(64, 64)
    spot[16:32, 24:48] = 1.0
    inputs = torch.where(spot > 0, 0.0, inputs)

    def contrast(x: Tensor) -> Tensor:
        return (F.avg_pool2d(x.square(), 8) - 1).square().mean((1, 2, 3))

    assert compare(contrast, inputs, {"true": spot}, CONFIG)[1] == {"true": None}
    filled, found, random = compare(contrast, inputs, {"true": spot, "wrong": -spot}, CONFIG, good)
    assert filled.name.startswith("good image")
    assert found["true"] is not None and found["wrong"] is not None
    assert random["true"] is not None and random["wrong"] is not None
    assert found["true"].auc < random["true"].auc - 0.2 and found["wrong"].auc > random["wrong"].auc


@pytest.mark.parametrize("goods", [0, 3])
def test_the_cost_that_is_said_is_the_cost(goods: int) -> None:
    inputs, spot = picture()
    counted = []

    def counting(batch: Tensor) -> Tensor:
        counted.append(len(batch))
        return energy(batch)

    good = torch.zeros(goods, 3, 64, 64) if goods else None
    config = DeletionConfig(steps=5, random_orders=4)
    compare(counting, inputs, {"true": spot, "wrong": -spot}, config, good)
    assert sum(counted) == scored_images(maps=2, good=goods, config=config)
