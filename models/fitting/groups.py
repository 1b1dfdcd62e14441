"""Good images are split by group, never by image: one piece, capture burst or lot stays on one side.

Without a key, near-duplicates form groups: thumbnails that correlate are taken to show one piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

THUMBNAIL = 32
THRESHOLDS = (0.8, 0.9, 0.95, 0.98)
LARGEST_SHARE = 0.25
LEAST_CORE = 0.25  # of the pixels of a region of interest
BLOCK = 2048


@dataclass(frozen=True)
class Groups:
    """names: the group of every image, (N,).  basis: how they were found, a phrase for the model card.

    >>> Groups(["a", "a", "b"], basis="the key lot").count()
    2
    """

    names: list[str]
    basis: str

    def count(self) -> int:
        return len(set(self.names))


def thumbnails(images: Tensor, inside: Tensor | None = None) -> NDArray[np.float32]:
    """(B, H, W, 3) uint8 to grey thumbnails (B, 1024), float32, each of mean 0 and length 1 (flat images are 0).

    Values fit float16, so a million images take 2 GB.

    Args:
        inside: the pixels of a region of interest, (H, W) bool; None: all. Then two thumbnails' product is the correlation of
            their cells inside, in which a cell weighs as much as pixels of it are inside, off the rim; cells without any are 0.

    >>> import torch
    >>> thumbnails(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape
    (2, 1024)
    """
    grey = images.float().mean(dim=3)[:, None]  # (B, 1, H, W)
    if inside is None:
        small = _shrunk(grey)  # (B, 1024)
        centred = small - small.mean(dim=1, keepdim=True)
    else:
        counted = _off_the_rim(inside[None, None].double())  # (1, 1, H, W); float64, so that a flat picture stays flat
        weights = _shrunk(counted)  # (1, 1024)
        small = torch.where(weights > 0, _shrunk(grey * counted) / weights, 0.0)  # (B, 1024)
        centred = (small - (small * weights).sum(dim=1, keepdim=True) / weights.sum()) * weights.sqrt()
    return (centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)).float().numpy()


def _shrunk(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(THUMBNAIL, THUMBNAIL), mode="area").flatten(1)  # (B, 1024)


def _off_the_rim(inside: Tensor) -> Tensor:
    """A region, (1, 1, H, W), 1 inside and 0 outside, without the pixels at its rim, into which a resize mixes what is drawn
    over the outside. The whole region, if these are most of it: what is left would say little."""
    core = -F.max_pool2d(-inside, kernel_size=3, stride=1, padding=1)  # the least of a pixel and its neighbours
    return core if core.sum() >= LEAST_CORE * inside.sum() else inside


def near_duplicates(thumbs: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Group number of every image: the connected components of 'correlation above the threshold', (N,).

    It works block by block and keeps only each pair of blocks' groups, so memory stays small even if all images look
    alike. Time grows with N^2 (100,000 images take some minutes).

    >>> near_duplicates(np.array([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1]]), threshold=0.9)
    array([0, 1, 0])
    """
    count = len(thumbs)
    links: list[NDArray[np.int64]] = []
    for top in range(0, count, BLOCK):
        rows = thumbs[top : top + BLOCK].astype(np.float32)
        for left in range(top, count, BLOCK):
            similar = rows @ thumbs[left : left + BLOCK].astype(np.float32).T > threshold
            members = np.concatenate([np.arange(top, top + len(rows)), np.arange(left, left + similar.shape[1])])
            i, j = np.nonzero(similar)
            links.append(_chains(members, members[i], members[len(rows) + j]))
    pairs = np.concatenate(links, axis=1)
    return _components(count, pairs[0], pairs[1])


def _components(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _chains(members: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest links, (2, L), that join the members as the given pairs do: they link each to the next of its component."""
    nodes = np.unique(members)
    number = _components(len(nodes), np.searchsorted(nodes, first), np.searchsorted(nodes, second))
    order = np.argsort(number, kind="stable")
    together = np.flatnonzero(number[order][1:] == number[order][:-1])
    return np.stack([nodes[order[together]], nodes[order[together + 1]]])


def group_images(keys: Sequence[str | None] | None, key_name: str | None, thumbs: NDArray[np.floating]) -> Groups:
    """The groups of N images.

    Args:
        keys: the value of the group key (or the lot) of every image; None, or any None in it, means unknown.
        key_name: the keys' name in messages.
        thumbs: `thumbnails` of the images, (N, 1024).

    >>> group_images(["lot 1", "lot 1", "lot 2"], "lot", thumbs=np.zeros((3, 1024)))
    Groups(names=['lot 1', 'lot 1', 'lot 2'], basis='the key lot')
    """
    if keys is not None and all(key is not None for key in keys):
        return Groups([str(key) for key in keys], f"the key {key_name}")
    for threshold in THRESHOLDS:
        found = near_duplicates(thumbs, threshold)
        if np.bincount(found).max() <= max(1, LARGEST_SHARE * len(found)):
            return Groups([str(number) for number in found], f"near-duplicate thumbnails (correlation above {threshold})")
    single = [str(number) for number in range(len(thumbs))]
    return Groups(
        single, "nothing: no key was given, and near-duplicates join too many images, so every image counts as its own group"
    )


def split(groups: Sequence[str], shares: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Positions of each set. Whole groups, in random order, fill one set after another to its share of the images.

    Groups of more than half of what a set wants come last, since a set of one group says nothing about another one: where
    thumbnails make the groups, one of them may hold a sixth of all images.

    Args:
        groups: of every image, (N,).
        shares: the share of the images, in [0, 1), of every set but the last, which takes the rest. A share above 0 gets
            at least one group if there is one of less than twice as many images, and another is left.
    Returns:
        One sorted int64 array per share, then the rest; they are disjoint and cover all images.

    >>> held_out, rest = split(groups=list("aabbccdd"), shares=[0.25], seed=0)
    >>> len(held_out), len(rest)
    (2, 6)
    """
    names, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sizes = np.bincount(code, minlength=len(names))
    left = np.random.default_rng(seed).permutation(len(names))
    sets: list[NDArray[np.int64]] = []
    for share in shares:
        wanted, taken, count = share * len(code), 0, 0
        order = left[np.argsort(2 * sizes[left] > wanted, kind="stable")]
        while count < len(order) - 1 and taken + sizes[order[count]] / 2 < wanted:
            taken += int(sizes[order[count]])
            count += 1
        sets.append(np.flatnonzero(np.isin(code, order[:count])))
        left = left[~np.isin(left, order[:count])]
    sets.append(np.flatnonzero(np.isin(code, left)))
    return sets
