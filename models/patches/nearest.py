"""Exact nearest neighbours in a bank of vectors, and the choice of a bank of bounded size.

The search is one matrix product per block of queries: |x - y|^2 = |x|^2 - 2 x.y + |y|^2 in float32 finds the group of
GROUP bank rows that holds the nearest one, and the differences x - y of that group's rows give row and distance. The
product's rounding can only choose the wrong group. With c the bank's mean and s the larger of |x - c| and max |y - c|,
products and sums are off by e <= 4 (D + 4) 2^-24 s^2, so the squared distance is at most 2 e too large and never too small.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 32
CHOSEN_AT_ONCE = 32  # rows of a bank between two signs of progress


class Block(NamedTuple):
    """How many queries and bank rows are multiplied at once; bank_rows is a multiple of GROUP."""

    queries: int
    bank_rows: int


CPU_BLOCK = Block(512, 1024)  # its products stay in a processor's cache
GPU_BLOCK = Block(1024, 1 << 17)  # its products take 512 MiB, and an image's search of the largest default bank one launch


class Bank(NamedTuple):
    """A bank and what every search of it needs; `searchable` makes it.

    rows: (M, D).  centre: (D,), their mean.  centred: rows less the centre, then zeros up to a multiple of GROUP, (M', D).
    squares: their squared lengths, infinite for the zeros, (M',).
    """

    rows: Tensor
    centre: Tensor
    centred: Tensor
    squares: Tensor


@torch.no_grad()
def searchable(bank: Tensor) -> Bank:
    """What `nearest` reads of a bank (M, D).

    >>> searchable(torch.zeros(3, 2)).centred.shape
    torch.Size([32, 2])
    """
    centre = bank.mean(0)
    centred = _whole_groups(bank - centre)
    squares = centred.square().sum(1)
    squares[len(bank) :] = torch.inf
    return Bank(bank, centre, centred, squares)


def block_of(device_type: str) -> Block:
    """The block for a device; on a GPU a launch costs more than a cache saves.

    >>> block_of("cpu").queries
    512
    """
    return CPU_BLOCK if device_type == "cpu" else GPU_BLOCK


def nearest(queries: Tensor, bank: Tensor | Bank, count: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest rows of the bank.

    Args:
        queries: (N, D), float32 or float64.
        bank: (M, D), of the same type, M >= count; as a Bank where it is searched often.
    Returns:
        distances: Euclidean, not squared, (N, count), ascending; differentiable with respect to the queries, with the
            gradient 0 at distance 0. NaN for a query that is not finite.
        rows: int64, (N, count).

    >>> distances, rows = nearest(torch.tensor([[0.0, 3.0]]), bank=torch.tensor([[0.0, 0.0], [4.0, 0.0]]), count=2)
    >>> distances, rows
    (tensor([[3., 5.]]), tensor([[0, 1]]))
    """
    if isinstance(bank, Tensor):
        bank = searchable(bank)
    if len(bank.rows) < count:
        raise ValueError(f"count must be at most the bank's rows, {len(bank.rows)}; got {count}. Ask for fewer neighbours.")
    block = block_of(queries.device.type)
    with torch.no_grad():
        shifted = (queries - bank.centre).split(block.queries)
        rows = torch.cat([_rows(part, bank, block.bank_rows, count) for part in shifted])
    distances = torch.linalg.vector_norm(queries[:, None] - bank.rows[rows], dim=2)  # (N, count)
    return distances, rows


def distances_to(maps: Tensor, bank: Tensor | Bank) -> Tensor:
    """Distance of every cell to the bank, (B, D, h, w) to (B, h, w), image by image: nothing depends on the batch.

    >>> distances_to(torch.zeros(1, 2, 1, 3), torch.tensor([[3.0, 4.0]]))
    tensor([[[5., 5., 5.]]])
    """
    found = [nearest(vectors.flatten(1).T, bank)[0][:, 0] for vectors in maps]  # (h * w,) each
    return torch.stack(found).unflatten(1, maps.shape[2:])  # (B, h, w)


def _whole_groups(bank: Tensor) -> Tensor:
    """The bank with zero rows up to a multiple of GROUP."""
    return torch.cat([bank, bank.new_zeros(-len(bank) % GROUP, bank.shape[1])])


def _rows(queries: Tensor, bank: Bank, at_once: int, count: int) -> Tensor:
    """The `count` nearest rows, (Q, count). They lie in the `count` groups with the least minima."""
    minima = torch.cat(
        [
            torch.addmm(part_squares, queries, part.T, alpha=-2)
            .view(len(queries), -1, GROUP)  # (Q, groups of the part, GROUP)
            .amin(2)
            for part, part_squares in zip(bank.centred.split(at_once), bank.squares.split(at_once), strict=True)
        ],
        1,
    )  # (Q, groups)
    groups = minima.topk(min(count, minima.shape[1]), dim=1, largest=False).indices  # (Q, min(count, groups))
    members = (groups[:, :, None] * GROUP + torch.arange(GROUP, device=queries.device)).flatten(1)  # (Q, groups * GROUP)
    exact = (queries[:, None] - bank.centred[members]).square().sum(2)  # (Q, groups * GROUP)
    exact = exact.masked_fill(members >= len(bank.rows), torch.inf)
    return members.gather(1, exact.topk(count, dim=1, largest=False).indices)


@torch.no_grad()
def spread(
    vectors: Tensor, count: int, seed: int, batches: Callable[[Tensor], Iterable[Tensor]] = lambda numbers: [numbers]
) -> Tensor:
    """Greedy k-centre: each vector chosen is the one farthest from those chosen before, the first one is random.

    Time grows as N * count, so callers draw N vectors at random first.

    Args:
        vectors: (N, D), float32.
        batches: the numbers of all choices, (min(count, N),), to their parts in order; a fit says there how far it is, and a
            rehearsal of it leaves the last ones out.
    Returns:
        int64 rows in the order of choice, one for each number in the parts.
    Source: Gonzalez 1985; Sener and Savarese 2018, Active Learning for CNNs, algorithm 1, arXiv:1708.00489

    >>> vectors = torch.tensor([[0.0], [0.1], [10.0]])
    >>> sorted(vectors[spread(vectors, count=2, seed=0)].flatten().tolist())
    [0.0, 10.0]
    """
    first = int(torch.randint(len(vectors), (1,), generator=torch.Generator().manual_seed(seed)))
    chosen, done = torch.empty(min(count, len(vectors)), dtype=torch.int64, device=vectors.device), 0
    squares = vectors.square().sum(1)
    far = torch.full_like(squares, torch.inf)  # squared distance to the nearest chosen vector
    row = torch.tensor(first, device=vectors.device)
    for part in batches(torch.arange(len(chosen))):
        for i in part.tolist():
            chosen[i] = row
            vector = vectors[row]
            torch.minimum(far, torch.addmv(squares, vectors, vector, alpha=-2).add_(vector.square().sum()), out=far)
            far[row] = -torch.inf  # never twice, however many vectors are equal
            row = far.argmax()
        row.item()  # waits for a GPU: a rehearsal measures how long each part takes
        done += len(part)
    return chosen[:done]


def filled(vectors: Tensor, rows: int) -> Tensor:
    """The first vectors, (rows, D). Fewer vectors are repeated in order, which changes no nearest distance.

    >>> filled(torch.tensor([[1.0], [2.0]]), rows=3)
    tensor([[1.],
            [2.],
            [1.]])
    """
    if not len(vectors):
        raise ValueError("vectors must be at least 1; got 0. Give images to make the bank of.")
    if len(vectors) >= rows:
        return vectors[:rows]
    return vectors[torch.arange(rows, device=vectors.device) % len(vectors)]
