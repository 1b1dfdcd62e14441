"""Training of Patch SVDD's encoder from scratch: it learns the positions of neighbours, and that close patches are alike.

Source: Yi and Yoon 2020, Patch SVDD, equations 3 to 5, arXiv:2006.16067; tests/golden/README.md section 6. The original ends
after 300 epochs with a constant learning rate. Here the schedule is a short one-cycle, weights are averaged, the four pairs
of a draw come from one image, and the first epoch trains too. The original's distance of close patches (equation 3) is least
when all embeddings are equal, and only the positions keep them apart. On a plain texture the positions take longer to learn
than a short training lasts, and the embeddings collapse (docs/accuracy-grounds.md). So the default, `contrast`, tells a close
patch from other images' patches by its distance.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.maps.grids import Maps
from models.patches.encoder import EMBEDDING, LARGE, LEAKY_SLOPE, SMALL, EncoderHier
from models.patches.pairs import SIDES, Pair, cut, distorted, jittered, neighbours

PAIR_REACH = 0.5
SHARPNESS = 10.0  # of the contrast, per unit of Euclidean distance; first embeddings of different images are about 2 apart


class PatchTraining(BaseModel):
    """How the encoder and the bank are made.

    pairs_per_image: draws per image and epoch, each of one pair per task and patch size (original: 100, and 300 epochs).
    epoch_steps: the least steps of an epoch; it draws few images more often. batch_size: draws (original: 64).
    learning_rate: Adam's, the peak of a one-cycle schedule (original: 1e-4, constant). svdd_weight: lambda. pair_loss:
    contrast, or the original's distance. pair_reach: how far the second of two close patches may be along either axis, in
    patch sizes (original: 1/32). distortion: standard deviation of colour shift and noise, for a value range of 1.
    exam_images: how many images make the whitening and the bank when the detector is only examined during training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(8, ge=1)
    epoch_steps: int = Field(170, ge=0)
    pairs_per_image: int = Field(6, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    gradient_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    svdd_weight: float = Field(1.0, ge=0)
    pair_loss: Literal["contrast", "distance"] = "contrast"
    pair_reach: float = Field(PAIR_REACH, ge=1 / 32, le=1)
    distortion: float = Field(0.02, ge=0)
    exam_images: int = Field(200, ge=1)


class PositionClassifier(nn.Module):
    """Finds the side of one patch on which another one lies, from the difference of their embeddings.

    The original's last layer normalises its weight (per input, over the eight outputs) where autograd does not see it, so
    that weight never learns: it is a fixed random projection. Here it is a buffer, normalised once. Only the bias is
    trained, and the layers before it learn to use it.

    >>> PositionClassifier()(torch.zeros(4, EMBEDDING), torch.ones(4, EMBEDDING)).shape
    torch.Size([4, 8])
    """

    directions: Tensor

    def __init__(self, hidden: int = 128):
        super().__init__()
        self.fc1 = nn.Linear(EMBEDDING, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        last = nn.Linear(hidden, len(SIDES))
        assert last.bias is not None
        self.bias = last.bias
        self.register_buffer("directions", normalised(last.weight.detach()))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Embeddings (B, 64) of both patches to logits (B, 8)."""
        x = F.leaky_relu(self.fc1(first - second), LEAKY_SLOPE)
        return F.linear(F.leaky_relu(self.fc2(x), LEAKY_SLOPE), self.directions, self.bias)


def normalised(weight: Tensor) -> Tensor:
    """(8, inputs) with columns of length 1.

    >>> normalised(torch.tensor([[3.0, 0.0], [4.0, 2.0]]))
    tensor([[0.6000, 0.0000],
            [0.8000, 1.0000]])
    """
    return weight / weight.norm(dim=0, keepdim=True)


class Losses(NamedTuple):
    """Means over the draws: the positions' cross entropies in nats, and the close pairs' contrast, also in nats, or their
    Euclidean distance."""

    position_large: Tensor
    position_small: Tensor
    pair_large: Tensor
    pair_small: Tensor

    def total(self, svdd_weight: float) -> Tensor:
        return self.position_large + self.position_small + svdd_weight * (self.pair_large + self.pair_small)


class PatchTasks(nn.Module):
    """The encoder and the two classifiers that only training needs.

    >>> tasks, draws = PatchTasks(EncoderHier()), Draws(distortion=0.02, seed=0)
    >>> losses = tasks(draws(torch.zeros(2, 3, 64, 64)))
    >>> losses.total(svdd_weight=1.0).shape, len(losses)
    (torch.Size([]), 4)
    """

    def __init__(self, encoder: EncoderHier, conv_dtype: torch.dtype | None = None, pair_loss: str = "contrast"):
        super().__init__()
        self.pair_loss = contrast if pair_loss == "contrast" else mean_distance
        self.encoder = encoder
        self.large_positions = PositionClassifier()
        self.small_positions = PositionClassifier()
        self.conv_dtype = conv_dtype

    def forward(self, patches: Maps) -> Losses:
        """Args:
        patches: neighbours (B, 2, 3, 64, 64) and (B, 2, 3, 32, 32), their sides (B, 2) int64, large and small; jittered
            pairs (B, 2, 3, 64, 64) and (B, 2, 3, 32, 32). All patches are float32.
        """
        near_large, near_small, sides, jittered_large, jittered_small = patches
        first, second, one, other = self._embed(self.encoder, near_large, jittered_large)
        first_small, second_small, one_small, other_small = self._embed(self.encoder.deep, near_small, jittered_small)
        return Losses(
            F.cross_entropy(self.large_positions(first, second), sides[:, 0]),
            F.cross_entropy(self.small_positions(first_small, second_small), sides[:, 1]),
            self.pair_loss(one, other),
            self.pair_loss(one_small, other_small),
        )

    def _embed(self, encoder: nn.Module, near: Tensor, close: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (B, 64) of the first and second patches of both kinds of pair, all in one pass."""
        patches = torch.cat([near[:, 0], near[:, 1], close[:, 0], close[:, 1]])  # (4 B, 3, K, K)
        patches = patches.contiguous(memory_format=torch.channels_last)
        with torch.autocast(patches.device.type, self.conv_dtype, enabled=self.conv_dtype is not None):
            return encoder(patches).flatten(1).chunk(4)


def mean_distance(one: Tensor, other: Tensor) -> Tensor:
    """The mean Euclidean distance of pairs (B, 64), a scalar. Yi and Yoon 2020, equation 3.

    >>> mean_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor(5.)
    """
    return torch.linalg.vector_norm(one - other, dim=1).mean()


def contrast(one: Tensor, other: Tensor) -> Tensor:
    """How badly distances tell an embedding's partner from the partners of other images' embeddings.

    This is the partner's cross entropy under softmax(-SHARPNESS d), d the distances to all B candidates. Embeddings that come
    closer together tell less, so a collapse does not lower it, and tanh keeps them from growing without end. It depends on
    which images share a shard. Source: the form is InfoNCE, van den Oord et al. 2018, equation 4, arXiv:1807.03748.

    Args:
        one, other: (B, 64), row i of both from image i.
    Returns:
        nats, a scalar; log B when the distances tell nothing, 0 for one image.

    >>> apart = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    >>> contrast(apart, apart), contrast(torch.zeros(2, 2), torch.zeros(2, 2))
    (tensor(0.), tensor(0.6931))
    """
    distances = torch.linalg.vector_norm(one[:, None] - other[None], dim=2)  # (B, B)
    return F.cross_entropy(-SHARPNESS * distances, torch.arange(len(one), device=one.device))


class Draws:
    """Draws what PatchTasks reads from whole images, at random but reproducibly. distortion: in the images' unit.

    seen: (H, W) bool, the pixels that count; a pair is drawn again until each of its patches has one. None: all count.

    >>> [tuple(x.shape) for x in Draws(distortion=0.02, seed=0)(torch.zeros(2, 3, 64, 96))]
    [(2, 2, 3, 64, 64), (2, 2, 3, 32, 32), (2, 2), (2, 2, 3, 64, 64), (2, 2, 3, 32, 32)]
    """

    def __init__(self, distortion: float, seed: int, pair_reach: float = PAIR_REACH, seen: NDArray[np.bool_] | None = None):
        self.seen = seen
        self.distortion = distortion
        self.pair_reach = pair_reach
        self.random = np.random.RandomState(seed % 2**32)
        self.generator = torch.Generator().manual_seed(seed)

    def get_state(self) -> dict[str, Any]:
        """Of both generators, as models/fitting/checkpoint.py keeps it."""
        random = self.random.get_state(legacy=False)
        random["state"]["key"] = random["state"]["key"].astype(np.int64)
        return {"random": random, "generator": self.generator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.random.set_state(state["random"])
        self.generator.set_state(state["generator"])

    def __call__(self, images: Tensor) -> Maps:
        """(B, 3, H, W), float32, H and W at least 64."""
        height, width = images.shape[2:]

        def side_by_side(size: int) -> Pair:
            return neighbours(self.random, height, width, size)

        def together(size: int) -> Pair:
            return jittered(self.random, height, width, size, self.pair_reach)

        near = {size: [self._counting(side_by_side, size) for _ in images] for size in (LARGE, SMALL)}
        close = {size: [self._counting(together, size) for _ in images] for size in (LARGE, SMALL)}
        sides = torch.tensor([[near[size][i].side for size in (LARGE, SMALL)] for i in range(len(images))])  # (B, 2)
        large, small = (distorted(cut(images, near[size], size), self.distortion, self.generator) for size in (LARGE, SMALL))
        return [large, small, sides.to(images.device), *(cut(images, close[size], size) for size in (LARGE, SMALL))]

    def _counting(self, draw: Callable[[int], Pair], size: int) -> Pair:
        """The first pair of patches of this size that both have a pixel that counts."""
        while True:
            pair = draw(size)
            if self.seen is None or all(self.seen[y : y + size, x : x + size].any() for y, x in (pair.first, pair.second)):
                return pair
