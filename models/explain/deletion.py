"""The deletion test: how fast the score falls when an image loses what an explanation calls relevant, most relevant first.

Source: Petsiuk et al. 2018, RISE, arXiv:1806.07421, section 4.2. Ours differs in the filling of deleted places and in the
scale. An image with deleted parts is itself unusual (Hooker et al. 2018, arXiv:1806.10758), and an anomaly detector scores
just that: grey or blur in a texture is a worse defect than most. So the filling is the least anomalous of several (a good
image is best), its edges are soft, and every figure comes with those of random orders: the map itself, shifted.

Why shifted maps: a map is smooth, so its order deletes a defect's cells together, early or late, whether it knows them or
not. Orders that scatter the cells delete a part of the defect at every step, and have more seams; their areas spread less, and
a smooth map without knowledge is below all of them far more often than chance would have it. Cyclic shifts keep the smoothness.
If a map's place has nothing to do with the defect's, it and its shifts are exchangeable, so it is below all 19 with chance 1/20
at most. It may be more for maps that prefer a place whatever the image, such as those with empty margins, on images whose
defects prefer it too: shifts do not keep that. No flips: a round spot flipped in its place is the same map, and would tie.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as image_functions

from models.explain.deletion_config import DeletionConfig

ScoreInputs = Callable[[Tensor], Tensor]
BLURS = {"blur 1/32": 1 / 32, "blur 1/8": 1 / 8}  # standard deviation as a share of the shorter side
PASS = 8  # images scored at once


@dataclass(frozen=True)
class Substitute:
    """The filling of an image's deleted places.

    filling: (3, H, W) normalised. name: of the filling. score, filled: the image's score before any deletion and after
    all of it is deleted.
    """

    filling: Tensor
    name: str
    score: float
    filled: float


class Deletion(NamedTuple):
    """auc: mean over the deleted share t of (S(t) - S(1)) / (S(0) - S(1)), trapezoids; lower is more faithful, 0.5 is a
    straight fall. curve: its steps + 1 values. An image has no deletion if it scores no lower when filled all over, or if a
    score is not a finite number.
    """

    auc: float
    curve: list[float]


class RandomOrders(NamedTuple):
    """The test of several shifts of one map. auc, curve: their mean.  areas: the auc of each, which shows their spread."""

    auc: float
    curve: list[float]
    areas: list[float]


def scored_images(maps: int, good: int, config: DeletionConfig) -> int:
    """How many images the test scores for one image with this many maps, and with this many good images to fill from.

    >>> scored_images(maps=6, good=8, config=DeletionConfig(steps=10, random_orders=19))
    1092
    """
    fillings = len(BLURS) + 1 + good  # and the mean colour
    return 1 + fillings + maps * (1 + config.random_orders) * (config.steps - 1)


def substitute(score: ScoreInputs, inputs: Tensor, good: Tensor | None = None) -> Substitute:
    """The least anomalous filling: a good image, the image blurred a little or much, or its mean colour.

    Args:
        score: normalised (B, 3, H, W) to (B,).
        inputs: (3, H, W) float32, normalised.
        good: (G, 3, H, W), good images of the same product; without them, no filling helps most textures.

    >>> inputs = torch.zeros(3, 32, 32)
    >>> inputs[:, 8:12, 8:12] = 1  # a bright spot, which has the highest score
    >>> found = substitute(lambda batch: batch.amax((1, 2, 3)), inputs)
    >>> found.name, found.score
    ('mean colour', 1.0)
    """
    side = min(inputs.shape[1:])
    fillings = {name: _blurred(inputs, share * side) for name, share in BLURS.items()}
    fillings["mean colour"] = inputs.mean((1, 2), keepdim=True).expand_as(inputs)
    fillings |= {f"good image {i}": each for i, each in enumerate(() if good is None else good)}
    first, *scores = _scores(score, torch.stack([inputs, *fillings.values()]))
    lowest = min(range(len(scores)), key=lambda i: scores[i])
    name = list(fillings)[lowest]
    return Substitute(fillings[name], name, first, scores[lowest])


def deletion(
    score: ScoreInputs, inputs: Tensor, relevance: Tensor, filled: Substitute, config: DeletionConfig
) -> Deletion | None:
    """The test of one map.

    Args:
        score: normalised (B, 3, H, W) to (B,), raw, higher is more anomalous.
        inputs: (3, H, W) float32, normalised. filled: `substitute` of them.
        relevance: (H, W) float32, higher is deleted earlier; equal cells are deleted in random order.

    >>> inputs, brightest = torch.zeros(3, 32, 32), lambda batch: batch.amax((1, 2, 3))
    >>> inputs[:, 8:12, 8:12] = 1
    >>> config = DeletionConfig(steps=8, feather=0)
    >>> filled = substitute(brightest, inputs)
    >>> deletion(brightest, inputs, inputs[0], filled, config).auc  # the spot goes first
    0.0625
    """
    return _curve(score, inputs, _cell_means(relevance, config), filled, config)


def random_deletion(
    score: ScoreInputs, inputs: Tensor, relevance: Tensor, filled: Substitute, config: DeletionConfig
) -> RandomOrders | None:
    """The test of the map's cells at random other places: the figures of such a map without any knowledge.

    The shifts, by whole cells and around the edges, are different ones, and none leaves the map where it is: it would tie with
    itself. Together with the map they are a sample without replacement of all places.

    >>> inputs, mean = torch.arange(3 * 32 * 32.0).view(3, 32, 32), lambda batch: batch.square().mean((1, 2, 3))
    >>> found = random_deletion(mean, inputs, inputs[0], substitute(mean, inputs), DeletionConfig(steps=4))
    >>> len(found.areas), len(found.curve), found.curve[0], found.curve[-1]
    (19, 5, 1.0, 0.0)
    """
    cells = _cell_means(relevance, config)
    columns = cells.shape[1]
    places = 1 + torch.randperm(cells.numel() - 1, generator=torch.Generator().manual_seed(config.seed))
    shifts = [divmod(int(place), columns) for place in places[: config.random_orders]]
    found = [_curve(score, inputs, cells.roll(shift, (0, 1)), filled, config) for shift in shifts]
    tested = [each for each in found if each is not None]
    if not tested:
        return None
    curve = [sum(values) / len(tested) for values in zip(*(each.curve for each in tested), strict=True)]
    return RandomOrders(_area(curve), curve, [each.auc for each in tested])


def compare(
    score: ScoreInputs, inputs: Tensor, maps: Mapping[str, Tensor], config: DeletionConfig, good: Tensor | None = None
) -> tuple[Substitute, dict[str, Deletion | None], dict[str, RandomOrders | None]]:
    """For one image (3, H, W): the filling, the test of every map (H, W), and the test of each map's random orders.

    >>> inputs, mean = torch.arange(3 * 32 * 32.0).view(3, 32, 32), lambda batch: batch.square().mean((1, 2, 3))
    >>> filled, tested, by_chance = compare(mean, inputs, {"pixels": inputs[0]}, DeletionConfig(steps=4))
    >>> filled.name, tested["pixels"].auc < by_chance["pixels"].auc
    ('mean colour', True)
    """
    filled = substitute(score, inputs, good)
    tested = {name: deletion(score, inputs, each, filled, config) for name, each in maps.items()}
    by_chance = {name: random_deletion(score, inputs, each, filled, config) for name, each in maps.items()}
    return filled, tested, by_chance


def _curve(score: ScoreInputs, inputs: Tensor, cells: Tensor, filled: Substitute, config: DeletionConfig) -> Deletion | None:
    """The test of relevances of cells, (rows, columns)."""
    span = filled.score - filled.filled
    if not span > 0:  # also true if one of them is not a number
        return None
    shuffled = torch.randperm(cells.numel(), generator=torch.Generator().manual_seed(config.seed))
    order = shuffled[cells.flatten().cpu()[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    size = _cell_px(inputs, config)
    place = rank.reshape(cells.shape).repeat_interleave(size, 0).repeat_interleave(size, 1)  # (rows * size, columns * size)
    place = place[: inputs.shape[1], : inputs.shape[2]].to(inputs.device)  # (H, W)
    counts = [round(step * len(order) / config.steps) for step in range(1, config.steps)]
    deleted = torch.stack([place < count for count in counts])[:, None].float()  # (steps - 1, 1, H, W)
    if config.feather:
        deleted = _blurred(deleted, config.feather * size)
    between = inputs + deleted * (filled.filling - inputs)
    scores = [filled.score, *_scores(score, between), filled.filled]
    curve = [(each - filled.filled) / span for each in scores]
    return Deletion(_area(curve), curve) if all(map(math.isfinite, curve)) else None


def _area(curve: list[float]) -> float:
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


@torch.no_grad()
def _scores(score: ScoreInputs, inputs: Tensor) -> list[float]:
    return [float(each) for part in inputs.split(PASS) for each in score(part)]


def _cell_px(x: Tensor, config: DeletionConfig) -> int:
    return max(1, min(x.shape[-2:]) // config.cells)


def _cell_means(x: Tensor, config: DeletionConfig) -> Tensor:
    """(H, W) to (rows, columns); cells at the right and lower edge may be smaller."""
    means = F.avg_pool2d(x[None, None], _cell_px(x, config), ceil_mode=True, count_include_pad=False)
    return means[0, 0]  # (rows, columns)


def _blurred(inputs: Tensor, sigma: float) -> Tensor:
    """(..., H, W) blurred by a Gaussian of standard deviation sigma, px; the image is mirrored beyond its edge."""
    width = 2 * math.ceil(2.5 * sigma) + 1
    return image_functions.gaussian_blur(inputs, [width, width], [sigma, sigma])
