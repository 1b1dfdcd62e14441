"""How long a scoring run takes and what it costs, from what an image was measured to take.

For N images on k nodes of c cores and g GPUs each, with seconds an image of decoding, of the model, and of reading and
committing (other):

    seconds = once + N / (k * node rate) + N * finalize
    node rate with GPUs = min((c - g) / (decode + other), g / model)      a scorer on a GPU holds a core
    node rate without   = c / (decode + other + model)                    the same cores do everything

Decoding grows with the size that images are stored in, so it has to be measured at that size. More nodes shorten neither the
start nor finalize, and are taken to be as fast together as each is alone: storage that all of them read from is in no term.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.command.errors import CommandError


class CostError(CommandError, ValueError):
    """Nodes that cannot run what is to be estimated."""


@dataclass(frozen=True)
class Rates:
    """Seconds an image.

    decode_s, other_s: of one core; other is reading and committing.  model_s: of one GPU where on_gpu, else of one core.
    finalize_s: of the run, after the last image is committed.  once_s: not an image's, but the run's: until its first images
    are scored, and what of finalize does not grow with the images.
    """

    on_gpu: bool
    decode_s: float
    model_s: float
    other_s: float = 0.0
    finalize_s: float = 0.0
    once_s: float = 0.0


@dataclass(frozen=True)
class Node:
    """usd_per_h: None where no price is known."""

    cpus: int
    gpus: int = 0
    usd_per_h: float | None = None


@dataclass(frozen=True)
class Estimate:
    """usd: of all nodes for the whole time; None without a price.  limit: what takes the largest part of the time: start,
    decode (reading and committing included), model or finalize."""

    nodes: int
    seconds: float
    gpu_hours: float
    usd: float | None
    limit: str


def estimate(images: int, rates: Rates, node: Node, nodes: int = 1) -> Estimate:
    """The formula above. Raises CostError for nodes that lack a GPU, or a core beside those that their scorers hold."""
    beside_model = rates.decode_s + rates.other_s
    if rates.on_gpu:
        if node.gpus < 1 or node.cpus <= node.gpus:
            raise CostError(
                f"nodes must have a GPU and more cores than GPUs for rates measured on a GPU; got {node.cpus} cores and "
                f"{node.gpus} GPUs. Set prices.cpus_per_node and prices.gpus_per_node, or measure with --device cpu."
            )
        by_stage = {"decode": beside_model / (node.cpus - node.gpus), "model": rates.model_s / node.gpus}
        scoring_s = max(by_stage.values()) * images / nodes
    else:
        by_stage = {"decode": beside_model / node.cpus, "model": rates.model_s / node.cpus}
        scoring_s = sum(by_stage.values()) * images / nodes
    slower = max(by_stage, key=lambda stage: by_stage[stage])
    parts = {"start": rates.once_s, slower: scoring_s, "finalize": rates.finalize_s * images}
    seconds = sum(parts.values())
    hours = seconds / 3600 * nodes
    return Estimate(
        nodes,
        seconds,
        gpu_hours=hours * node.gpus if rates.on_gpu else 0.0,
        usd=None if node.usd_per_h is None else hours * node.usd_per_h,
        limit=max(parts, key=lambda part: parts[part]),
    )


def line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds once and seconds an image, of (images, seconds) of runs: least squares, neither below 0.

    Where all runs have as many images, all seconds are an image's, which is too much for a longer run.
    """
    count = len(points)
    x, y = sum(images for images, _ in points) / count, sum(seconds for _, seconds in points) / count
    spread = sum((images - x) ** 2 for images, _ in points)
    slope = sum((images - x) * (seconds - y) for images, seconds in points) / spread if spread else y / x
    if slope < 0:
        return y, 0.0
    if slope * x > y:
        return 0.0, sum(images * seconds for images, seconds in points) / sum(images * images for images, _ in points)
    return y - slope * x, slope


def doublings(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return [1 << i for i in range((most - 1).bit_length())] + [most]
