"""The deletion test: how fast the score falls when an image loses what an explanation calls relevant, most relevant first.

Source: Petsiuk et al. 2018, RISE, arXiv:1806.07421, section 4.2. Ours differs in the filling of deleted places and in the
scale. An image with deleted parts is itself unusual (Hooker et al. 2018, arXiv:1806.10758), and an anomaly detector scores
just that: grey or blur in a texture is a worse defect than most. So the filling is the least anomalous of several (a good
image is best), its edges are soft, and every figure comes with that of the same deletions in random order.
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
    cells = _cell_means(relevance, config)
    shuffled = torch.randperm(cells.numel(), generator=torch.Generator().manual_seed(config.seed))
    order = shuffled[cells.flatten().cpu()[shuffled].argsort(descending=True, stable=True)]
    return _curve(score, inputs, order, tuple(cells.shape), filled, config)


def random_deletion(score: ScoreInputs, inputs: Tensor, filled: Substitute, config: DeletionConfig) -> Deletion | None:
    """The mean of the test over random orders of the same cells: the figure of a map without any knowledge.

    >>> inputs, mean = torch.arange(3 * 32 * 32.0).view(3, 32, 32), lambda batch: batch.square().mean((1, 2, 3))
    >>> found = random_deletion(mean, inputs, substitute(mean, inputs), DeletionConfig(steps=4))
    >>> len(found.curve), found.curve[0], found.curve[-1]
    (5, 1.0, 0.0)
    """
    shape = tuple(_cell_means(inputs[0], config).shape)
    generator = torch.Generator().manual_seed(config.seed)
    orders = [torch.randperm(math.prod(shape), generator=generator) for _ in range(config.random_orders)]
    found = [_curve(score, inputs, order, shape, filled, config) for order in orders]
    curves = [each.curve for each in found if each is not None]
    if not curves:
        return None
    curve = [sum(values) / len(curves) for values in zip(*curves, strict=True)]
    return Deletion(_area(curve), curve)


def compare(
    score: ScoreInputs, inputs: Tensor, maps: Mapping[str, Tensor], config: DeletionConfig, good: Tensor | None = None
) -> tuple[Substitute, dict[str, Deletion | None], Deletion | None]:
    """For one image (3, H, W): the filling, the test of every map (H, W), and the test of random orders.

    >>> inputs, mean = torch.arange(3 * 32 * 32.0).view(3, 32, 32), lambda batch: batch.square().mean((1, 2, 3))
    >>> filled, tested, by_chance = compare(mean, inputs, {"pixels": inputs[0]}, DeletionConfig(steps=4))
    >>> filled.name, tested["pixels"].auc < by_chance.auc
    ('mean colour', True)
    """
    filled = substitute(score, inputs, good)
    tested = {name: deletion(score, inputs, each, filled, config) for name, each in maps.items()}
    return filled, tested, random_deletion(score, inputs, filled, config)


def _curve(
    score: ScoreInputs, inputs: Tensor, order: Tensor, shape: tuple[int, ...], filled: Substitute, config: DeletionConfig
) -> Deletion | None:
    span = filled.score - filled.filled
    if not span > 0:  # also true if one of them is not a number
        return None
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    size = _cell_px(inputs, config)
    place = rank.reshape(shape).repeat_interleave(size, 0).repeat_interleave(size, 1)  # (rows * size, columns * size)
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
